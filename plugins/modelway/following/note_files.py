"""Small JSON files in the home that help to find a job again, written atomically; failures are ignored."""

import contextlib
import json
from pathlib import Path
from typing import Any


def write_note(path: Path, data: Any) -> None:
    """Write ``data`` at ``path``; a failure is ignored, since the file is only a fallback."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(data))
        beside.replace(path)
