"""Our part of the library that a job sees: ``modelway.job``, what it shares with the server, and nothing else."""

import contextlib
import hashlib
import shutil
import uuid
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]


def runner_files() -> dict[str, Path]:
    """Return the files by their place on a job's PYTHONPATH."""
    files = [_SOURCE / "__init__.py", _SOURCE / "torch_program.py", *sorted((_SOURCE / "job").rglob("*.py"))]
    return {f"modelway/{file.relative_to(_SOURCE).as_posix()}": file for file in files}


def runner_folder(folder: Path) -> Path:
    """Return a folder below ``folder`` to put on a job's PYTHONPATH; the files are copied once per content."""
    files = runner_files()
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files.values())).hexdigest()[:16]
    place = folder / ".runner" / digest
    if not place.is_dir():
        beside = place.with_name(f"{digest}.{uuid.uuid4().hex}")
        for name, file in files.items():
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        with contextlib.suppress(OSError):
            beside.rename(place)
        shutil.rmtree(beside, ignore_errors=True)
    return place
