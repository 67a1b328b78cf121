"""The worker's side of a job's folder on an object store: publish what a job needs, fetch what it wrote.

The container's side, and the layout below the job's URI, is ``modelway.job.agent.remote``.
"""

import contextlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelway.artifacts.whole_files import BLOCK, lock, replace_file
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind

PREPARED = "prepared.tar"
#: what of a prepared folder the container needs
PARTS = ("job.json", "code", "inputs", "runner")
#: the container's first program; its image needs fsspec and what reads the store (s3fs, gcsfs, adlfs)
_BOOTSTRAP = """
import os, sys, tarfile
uri, folder, *words = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
try:
    import fsspec
    with fsspec.open(uri + "/prepared.tar", "rb") as source, tarfile.open(fileobj=source, mode="r|") as packed:
        packed.extractall(folder)
except ImportError as error:
    print(f"the image cannot read {uri}: {error} (it needs fsspec and s3fs, gcsfs or what else reads it)", flush=True)
    sys.exit(2)
except Exception as error:
    print(f"the job cannot be fetched from {uri}: {type(error).__name__}: {error}", flush=True)
    sys.exit(2)
os.environ.update(PYTHONPATH=folder + "/runner", PYTHONSAFEPATH="1", PYTHONUNBUFFERED="1")
os.execv(sys.executable, [sys.executable, "-m", "modelway.job.agent", folder, *words, "--remote", uri])
"""


def command(*, uri: str, folder: str, flags: list[str], python: str = "python3") -> list[str]:
    """Return the container's command: unpack the job into ``folder``, a place of its own, and run the agent there.

    :param flags: the agent's flags, such as ``--attempt 1``
    """
    return [python, "-c", _BOOTSTRAP, uri.rstrip("/"), folder, *flags]


def publish(*, folder: Path, uri: str, options: dict[str, Any] | None = None) -> None:
    """Send a prepared folder, so that containers can begin with it.

    :param options: what fsspec needs to open the store, such as an endpoint
    """
    fs, place = _open(uri, options)
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for part in PARTS:
                if (folder / part).exists():
                    archive.add(folder / part, arcname=part)
        packed.seek(0)
        with fs.open(f"{place}/{PREPARED}", "wb") as target:
            shutil.copyfileobj(packed, target, BLOCK)


def send(*, folder: Path, uri: str, names: Iterable[str], options: dict[str, Any] | None = None) -> None:
    """Send small files of a folder; missing files are skipped."""
    fs, place = _open(uri, options)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            fs.pipe_file(f"{place}/{name}", (folder / name).read_bytes())


def fetch_named(*, uri: str, folder: Path, names: Iterable[str], options: dict[str, Any] | None = None) -> None:
    """Copy these small files into a local folder; one that the store does not have is removed there."""
    fs, place = _open(uri, options)
    for name in names:
        try:
            data = fs.cat_file(f"{place}/{name}")
        except FileNotFoundError:
            (folder / name).unlink(missing_ok=True)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        replace_file(path=folder / name, data=data)


def folders_in(*, uri: str, options: dict[str, Any] | None = None) -> list[str]:
    """Return the names of what is below a URI, as it is now."""
    fs, place = _open(uri, options)
    try:
        return sorted(str(each).rstrip("/").rpartition("/")[2] for each in fs.ls(place, detail=False))
    except FileNotFoundError:
        return []


def objects_in(*, uri: str, options: dict[str, Any] | None = None) -> dict[str, tuple[int, float]]:
    """Return all that is below a URI: its name there, with its size and when it was written (seconds, UTC).

    One listing, a request for about a thousand objects.
    """
    fs, place = _open(uri, options)
    found: dict[str, dict[str, Any]] = fs.find(place, detail=True)
    return {
        path[len(place) :].lstrip("/"): (int(info.get("size") or 0), _written(info)) for path, info in found.items()
    }


def _written(info: dict[str, Any]) -> float:
    """Return when an object was written; each file system calls it differently, one that does not say has it now."""
    found = next((info[key] for key in ("LastModified", "mtime", "last_modified", "created") if info.get(key)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found.replace("Z", "+00:00"))
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return float(found) if isinstance(found, int | float) else float("inf")


def remove(*, uri: str, options: dict[str, Any] | None = None) -> None:
    """Remove what is below a URI, if it is there."""
    fs, place = _open(uri, options)
    for path in fs.find(place):
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)


def fetch(*, uri: str, folder: Path, options: dict[str, Any] | None = None) -> None:
    """Copy what a job has written so far into a local folder; outputs of unchanged size are not fetched again.

    The log's pieces become ``try-<n>/log-<node>.txt`` as on storage that the worker sees.
    """
    fs, place = _open(uri, options)
    found: dict[str, dict[str, Any]] = fs.find(place, detail=True)
    for path, info in sorted(found.items()):
        name = path[len(place) :].lstrip("/")
        target = folder / name
        if ".." in name.split("/") or not name:
            continue
        if name == PREPARED or name.startswith("try-") and ("/pods/" in name or "/log-" in name):
            continue
        # Small files change without changing their size.
        if name.startswith("output/") and target.is_file() and target.stat().st_size == info["size"]:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.fetched")
        with contextlib.suppress(FileNotFoundError):
            fs.get_file(path, str(beside))
            beside.replace(target)
    logs = {name.rpartition("/")[0] for name in (path[len(place) + 1 :] for path in found) if "/log-" in name}
    for log in sorted(each for each in logs if each.startswith("try-")):
        _fetch_log(fs, f"{place}/{log}", folder / f"{log}.txt")


def fetch_log(*, uri: str, folder: Path, attempt: int, node: int = 0, options: dict[str, Any] | None = None) -> None:
    """Copy what is new in an attempt's log since the last call."""
    fs, place = _open(uri, options)
    log = f"try-{attempt}/log-{node}"
    _fetch_log(fs, f"{place}/{log}", folder / f"{log}.txt")


def _fetch_log(fs: Any, log: str, target: Path) -> None:
    """Append the pieces that follow the local ones; each is named by its offset, so that no listing is needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file:
        # A worker and a triggerer may copy to the same place.
        lock(file)
        file.seek(0, 2)
        with contextlib.suppress(FileNotFoundError):
            while True:
                file.write(fs.cat_file(f"{log}/{file.tell():012d}"))


def exit_report(*, uri: str, attempt: int, node: int = 0, options: dict[str, Any] | None = None) -> bytes | None:
    """Return an attempt's exit report, ``exit-<node>.json``, or None while there is none."""
    fs, place = _open(uri, options)
    try:
        found: bytes = fs.cat_file(f"{place}/try-{attempt}/exit-{node}.json")
    except FileNotFoundError:
        return None
    return found


@contextlib.contextmanager
def translate_errors(uri: str, *, submitted: bool = False) -> Iterator[None]:
    """Translate a refusal or failure of a store, or of the connection to it, to our own error.

    :param submitted: the job runs already: a refusal to this process says nothing about the job
    :raises SubmitFailed: with the kind of failure that it is
    :raises CapabilityMissing: nothing here reads such a store
    """
    try:
        yield
    except ImportError as error:
        raise CapabilityMissing(
            f"the worker cannot read {uri}: {error}",
            do="Install s3fs for s3://, modelway[google] for gs:// where Airflow's workers and triggerers run",
        ) from error
    except (SubmitFailed, CapabilityMissing):
        raise
    except Exception as error:
        # gcsfs has no PermissionError, and calls without credentials where it finds none.
        anonymous = "Anonymous caller" in str(error)
        denied = isinstance(error, PermissionError) or str(error).startswith("Forbidden:") or anonymous
        missing = isinstance(error, FileNotFoundError)
        kind = FailureKind.FORBIDDEN if denied else FailureKind.REFUSED if missing else FailureKind.UNREACHABLE
        kind = FailureKind.UNREACHABLE if submitted else kind
        what = "refuses this worker" if denied else "does not answer"
        raise SubmitFailed(
            f"the storage {uri} {what}: {' '.join(str(error).split())}",
            kind=kind,
            do=_advice(uri, is_known=denied and not anonymous),
        ) from error


def _advice(uri: str, *, is_known: bool) -> str:
    """Return what to do about a store that refuses or does not answer.

    :param is_known: whether the store knows who calls, and refuses that account
    """
    if not uri.startswith("gs:"):
        return "Check that the bucket is there, and the worker's credentials for it (such as AWS_ACCESS_KEY_ID)"
    if is_known:
        return (
            "Grant the worker's account roles/storage.objectUser on the bucket; roles of a project do not reach the "
            "buckets of another one"
        )
    return (
        "Check that the bucket is there, and the worker's own credentials: GOOGLE_APPLICATION_CREDENTIALS or the "
        "service account of its machine; Airflow's connections are not used for buckets"
    )


def _open(uri: str, options: dict[str, Any] | None) -> tuple[Any, str]:
    import fsspec

    # Creating folders on an object store could create its bucket.
    own = {"auto_mkdir": True} if uri.startswith("file:") else {}
    fs, place = fsspec.core.url_to_fs(uri, **own, **(options or {}))
    # A cached listing would hide newer files.
    fs.invalidate_cache()
    return fs, str(place).rstrip("/")
