"""Our part of the library that a job sees: ``modelway.job``, what it shares with the server, and nothing else.

The image job has the builder of images too, with the packages that it uses: they are plain Python, and no image of a
job has to have them.
"""

import contextlib
import hashlib
import importlib.metadata
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from modelway.backends.base import Job

_SOURCE = Path(__file__).resolve().parents[2]
#: what builds an image, below the library's folder
_BUILDING = (
    *("errors.py", "failures.py", "names.py", "ports.py"),
    *("artifacts/*.py", "oci/*.py", "builders/*.py", "builders/oci/*.py"),
    *("runs/__init__.py", "runs/image_contents.py", "runs/image_job.py"),
    *(f"runs/messages/{name}.py" for name in ("__init__", "message", "checkpoints", "version")),
)
#: beside the folder of the job: what it shares with the server
_SHARED = ("__init__.py", "sketches.py", "torch_program.py")
_PACKAGE = "httpx"
#: a job's Python may be another one than the worker's: what the oldest needs does no harm
_ENVIRONMENT = {"extra": "", "python_version": "3.11", "python_full_version": "3.11.0"}


def runner_files(job: Job) -> dict[str, Path]:
    """Return the files by their place on the PYTHONPATH of a job."""
    files = [_SOURCE / name for name in _SHARED] + sorted((_SOURCE / "job").rglob("*.py"))
    packages: dict[str, Path] = {}
    if job.action == "image":
        files += sorted(path for pattern in _BUILDING for path in _SOURCE.glob(pattern))
        packages = dict(_files_of(_PACKAGE, seen=set()))
    return {f"modelway/{file.relative_to(_SOURCE).as_posix()}": file for file in files} | packages


def _files_of(package: str, *, seen: set[str]) -> Iterator[tuple[str, Path]]:
    """Yield the modules of an installed package and of those that it requires, by their place on the PYTHONPATH."""
    seen.add(package)
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return
    for file in found.files or ():
        if file.suffix in (".py", ".pem") and ".." not in file.parts:
            yield file.as_posix(), Path(str(found.locate_file(file)))
    for requirement in map(Requirement, found.requires or ()):
        if requirement.name not in seen and (requirement.marker is None or requirement.marker.evaluate(_ENVIRONMENT)):
            yield from _files_of(requirement.name, seen=seen)


def runner_folder(folder: Path, job: Job) -> Path:
    """Return a folder below ``folder`` to put on a job's PYTHONPATH; the files are copied once per content."""
    files = runner_files(job)
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
