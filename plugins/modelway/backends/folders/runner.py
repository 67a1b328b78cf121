"""Our part of the library that a job sees: ``modelway.job`` and nothing else, copied once per content."""

import contextlib
import hashlib
import shutil
import uuid
from pathlib import Path


def runner_folder(folder: Path) -> Path:
    """Return a folder below ``folder`` to put on a job's PYTHONPATH."""
    source = Path(__file__).resolve().parents[2]
    files = [source / "__init__.py", *sorted((source / "job").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    place = folder / ".runner" / digest
    if not place.is_dir():
        beside = place.with_name(f"{digest}.{uuid.uuid4().hex}")
        for file in files:
            target = beside / "modelway" / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        with contextlib.suppress(OSError):
            beside.rename(place)
        shutil.rmtree(beside, ignore_errors=True)
    return place
