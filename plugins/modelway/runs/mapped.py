"""The names of the jobs of trainings that are expanded over parameters."""

import hashlib
import json
from typing import Any


def map_item(index: int | str, **arguments: Any) -> str:
    """Return what identifies the job of a mapped task: its index or name, and a digest of its arguments.

    After a clear the same index may have other arguments, which must not continue the earlier job.
    """
    text = json.dumps(arguments, sort_keys=True, default=str)
    return f"{index}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
