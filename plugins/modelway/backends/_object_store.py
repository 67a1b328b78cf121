"""The worker's side of a job's folder on an object store: publish what a job needs, fetch what it made.

The container's side, and what lies where below the job's URI, is ``modelway.job.remote``.
"""

import contextlib
import io
import tarfile
from pathlib import Path
from typing import Any

PREPARED = "prepared.tar"
#: what of a prepared folder the container needs
PARTS = ("job.json", "code", "inputs", "runner")
#: the container's first words; its image needs fsspec and what reads the store (s3fs, gcsfs, adlfs)
_BOOTSTRAP = """
import os, sys, tarfile, fsspec
uri, folder, *words = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
with fsspec.open(uri + "/prepared.tar", "rb") as source, tarfile.open(fileobj=source, mode="r|") as packed:
    packed.extractall(folder)
os.environ.update(PYTHONPATH=folder + "/runner", PYTHONSAFEPATH="1", PYTHONUNBUFFERED="1")
os.execv(sys.executable, [sys.executable, "-m", "modelway.job.agent", folder, *words, "--remote", uri])
"""


def command(*, uri: str, folder: str, words: list[str], python: str = "python3") -> list[str]:
    """Return the container's command: unpack the job into ``folder``, a place of its own, and run the agent there.

    :param words: the agent's flags, such as ``--attempt 1``
    """
    return [python, "-c", _BOOTSTRAP, uri.rstrip("/"), folder, *words]


def publish(*, folder: Path, uri: str, options: dict[str, Any] | None = None) -> None:
    """Send a prepared folder, so that containers can begin with it.

    :param options: what fsspec needs to open the store, such as an endpoint
    """
    fs, place = _open(uri, options)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for part in PARTS:
            if (folder / part).exists():
                archive.add(folder / part, arcname=part)
    with contextlib.suppress(OSError):
        fs.makedirs(place, exist_ok=True)
    fs.pipe_file(f"{place}/{PREPARED}", packed.getvalue())


def fetch(*, uri: str, folder: Path, options: dict[str, Any] | None = None) -> None:
    """Copy what a job has made so far into a local folder; what has the same size already is not fetched again.

    The log's pieces become ``try-<n>/log-<node>.txt`` as on storage that the worker sees.
    """
    fs, place = _open(uri, options)
    fs.invalidate_cache()
    found: dict[str, dict[str, Any]] = fs.find(place, detail=True)
    for path, told in sorted(found.items()):
        name = path[len(place) :].lstrip("/")
        target = folder / name
        if name == PREPARED or "/pods/" in name or "/log-" in name:
            continue
        # Small files change without changing their size.
        if name.startswith("output/") and target.is_file() and target.stat().st_size == told["size"]:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.fetched")
        with contextlib.suppress(FileNotFoundError):
            fs.get_file(path, str(beside))
            beside.replace(target)
    for log in sorted({path.rsplit("/", 1)[0] for path in found if "/log-" in path}):
        _fetch_log(fs, log, sorted(path for path in found if path.startswith(log + "/")), folder, place)


def _fetch_log(fs: Any, log: str, pieces: list[str], folder: Path, place: str) -> None:
    target = folder / f"{log[len(place) :].lstrip('/')}.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    have = target.stat().st_size if target.exists() else 0
    with target.open("ab") as file:
        for piece in pieces:
            if int(piece.rsplit("/", 1)[1]) == have:
                data = fs.cat_file(piece)
                file.write(data)
                have += len(data)


def ending(*, uri: str, attempt: int, node: int = 0, options: dict[str, Any] | None = None) -> bytes | None:
    """Return how a try ended, as its ``exit-<node>.json`` tells, or None while it has not."""
    fs, place = _open(uri, options)
    fs.invalidate_cache()
    try:
        found: bytes = fs.cat_file(f"{place}/try-{attempt}/exit-{node}.json")
    except FileNotFoundError:
        return None
    return found


def _open(uri: str, options: dict[str, Any] | None) -> tuple[Any, str]:
    import fsspec

    fs, place = fsspec.core.url_to_fs(uri, **(options or {}))
    return fs, str(place).rstrip("/")
