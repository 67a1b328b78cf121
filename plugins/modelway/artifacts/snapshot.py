"""A snapshot: the DAG files and the models' folders of one moment as one archive, the same bytes for the same files."""

import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelway.artifacts.code_package import EPOCH, SKIPPED
from modelway.artifacts.whole_files import sync_folder
from modelway.errors import ModelwayError

#: the parts of a snapshot; the marker makes a folder one
MARKER, DAGS, MODELS = "snapshot.json", "dags", "include/models"
#: what is not a code package's but an Airflow's: the one hidden file that Airflow reads
INCLUDED = ".airflowignore"
SPEC = "model.yaml"
#: a larger YAML file is truncated to this: no loader accepts it, and the rest is enough for it to be refused
LARGEST_YAML_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, folder or link of a snapshot."""

    name: str
    kind: int
    """What it is, as in ``st_mode``: ``S_IFREG``, ``S_IFDIR``, ``S_IFLNK``, ``S_IFIFO``."""
    source: Path
    executable: bool = False
    sealed: bool = False
    """It cannot be read: it is replaced by an empty file that cannot be read either."""
    target: str = ""
    stamp: tuple[int, ...] = ()
    """Changes whenever the content does."""


def snapshot_of(path: Path) -> Path | None:
    """Return the folder of the snapshot that ``path`` is in, if it is in one."""
    for folder in path.parents:
        # Path.is_file raises where the folder may not be read.
        if os.path.isfile(folder / MARKER) and os.path.isdir(folder / DAGS):
            return folder
    return None


def find_entries(*, dags: Path, models: Path) -> tuple[Entry, ...]:
    """Return the entries of a snapshot of the two folders, sorted by name.

    All but hidden files and Python's caches. What is wrong in a model's folder stays as it is (a link that goes
    nowhere, a pipe, a file that nobody may read): a reader of the snapshot meets and reports it as in the folder.

    :raises ModelwayError: the folder of the DAG files cannot be read
    """
    try:
        os.listdir(dags)
    except OSError as error:
        raise ModelwayError(
            f"the folder of the DAG files cannot be read: {(error.strerror or str(error)).lower()}",
            where=str(dags),
            do="Create it, or set AIRFLOW__CORE__DAGS_FOLDER to the right one",
        ) from error
    found = [*_folder(dags, DAGS, inside=None), *_models(models)]
    return tuple(sorted(found, key=lambda entry: entry.name))


def _models(models: Path) -> Iterator[Entry]:
    try:
        names = sorted(os.listdir(models))
    except FileNotFoundError:
        return
    except OSError:
        # A file where the folder should be: reading it as a folder fails.
        yield Entry(name=MODELS, kind=stat.S_IFREG, source=models, sealed=True)
        return
    yield Entry(name=MODELS, kind=stat.S_IFDIR, source=models)
    for name in names:
        if not SKIPPED.search(name):
            path = models / name
            inside = os.path.realpath(path) if os.path.isdir(path) else None
            yield from _entry(path, f"{MODELS}/{name}", inside=inside, is_model=True)


def _folder(folder: Path, name: str, *, inside: str | None, above: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Yield a folder and what is in it.

    :param inside: the model's folder, which links must not leave; DAG files may link anywhere
    :param above: the folders that this one is in, so that a link to one of them ends
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        yield Entry(name=name, kind=stat.S_IFREG, source=folder, sealed=True)
        return
    yield Entry(name=name, kind=stat.S_IFDIR, source=folder)
    above = (*above, os.path.realpath(folder))
    for each in names:
        # model.yaml is skipped by name in a code package alone.
        if not SKIPPED.search(f"-/{each}") or each == INCLUDED:
            yield from _entry(folder / each, f"{name}/{each}", inside=inside, above=above)


def _entry(
    path: Path, name: str, *, inside: str | None, above: tuple[str, ...] = (), is_model: bool = False
) -> Iterator[Entry]:
    name = name.encode("utf-8", "backslashreplace").decode()
    try:
        itself = path.lstat()
        status = path.stat() if _is_followed(path, itself, inside) else itself
    except FileNotFoundError:
        # Removed in this moment.
        return
    except OSError:
        yield Entry(name=name, kind=stat.S_IFREG, source=path, sealed=True)
        return
    if stat.S_ISDIR(status.st_mode):
        if is_model and not os.access(path, os.R_OK | os.X_OK):
            yield Entry(name=f"{name}/{SPEC}", kind=stat.S_IFREG, source=path, sealed=True)
        elif os.path.realpath(path) not in above:
            yield from _folder(path, name, inside=inside, above=above)
    elif stat.S_ISLNK(status.st_mode):
        yield Entry(name=name, kind=stat.S_IFLNK, source=path, target=os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        executable = bool(status.st_mode & stat.S_IXUSR)
        sealed = not os.access(path, os.R_OK)
        yield Entry(name=name, kind=stat.S_IFREG, source=path, executable=executable, sealed=sealed, stamp=stamp)
    else:
        yield Entry(name=name, kind=stat.S_IFIFO, source=path)


def _is_followed(path: Path, itself: os.stat_result, inside: str | None) -> bool:
    """Whether a link is replaced by its target: where a code package would include it, for a spec, for DAG files."""
    if not stat.S_ISLNK(itself.st_mode):
        return False
    if inside is None:
        return os.path.exists(path)
    real = os.path.realpath(path)
    # The model's folder itself may be a link; a link to a folder within is refused by the code package.
    # A spec may be one for several models, in the folder of the models.
    places = [inside, os.path.realpath(path.parent.parent)] if path.name == SPEC else [inside]
    return real == inside or (os.path.isfile(path) and any(Path(real).is_relative_to(place) for place in places))


def signature(entries: tuple[Entry, ...], commits: Mapping[str, Any]) -> str:
    """Return what changes whenever the snapshot would."""
    said = [[e.name, e.kind, e.executable, e.sealed, e.target, *e.stamp] for e in entries]
    return hashlib.sha256(json.dumps([said, commits], sort_keys=True).encode()).hexdigest()


def write_snapshot(entries: tuple[Entry, ...], *, commits: Mapping[str, Any], to: Path) -> None:
    """Write a snapshot to the file ``to``: names sorted, no times, so that the same files give the same bytes.

    :param commits: the git state of each model's folder
    """
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as package:
        marker = json.dumps({"commits": commits}, sort_keys=True).encode()
        package.writestr(_info(MARKER, stat.S_IFREG | 0o444), marker)
        for entry in entries:
            mode = 0 if entry.sealed else 0o555 if entry.executable else 0o444
            if stat.S_ISDIR(entry.kind):
                package.writestr(_info(f"{entry.name}/", entry.kind | 0o755), b"")
            elif stat.S_ISLNK(entry.kind):
                package.writestr(_info(entry.name, entry.kind | 0o777), os.fsencode(entry.target))
            elif entry.sealed or not stat.S_ISREG(entry.kind):
                package.writestr(_info(entry.name, entry.kind | mode), b"")
            else:
                _write_file(package, entry, mode)


def _write_file(package: zipfile.ZipFile, entry: Entry, mode: int) -> None:
    try:
        source = entry.source.open("rb")
    except FileNotFoundError:
        # Removed since it was listed: so it is when the files are listed again.
        return
    size = os.fstat(source.fileno()).st_size
    with source, package.open(_info(entry.name, entry.kind | mode), "w", force_zip64=size >= 2**31) as target:
        if entry.name.endswith((".yaml", ".yml")) and size > LARGEST_YAML_BYTES:
            target.write(source.read(LARGEST_YAML_BYTES))
        else:
            shutil.copyfileobj(source, target, 1024 * 1024)


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=EPOCH)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def unpack_snapshot(*, package: Path, to: Path) -> None:
    """Unpack a snapshot into the new folder ``to``, on the disk when this returns.

    :raises ModelwayError: a member's name leaves the folder
    """
    with zipfile.ZipFile(package) as archive:
        for info in archive.infolist():
            if re.search(r"^/|(^|/)\.\.(/|$)", info.filename):
                raise ModelwayError(f"the member '{info.filename}' leaves the folder", where=str(package))
            target, mode = to / info.filename, info.external_attr >> 16
            if stat.S_ISDIR(mode):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(mode):
                os.symlink(os.fsdecode(archive.read(info)), target)
            elif stat.S_ISFIFO(mode):
                os.mkfifo(target)
            else:
                _unpack_file(archive, info, target, mode & 0o777)
    sync_folder(to)


def _unpack_file(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, mode: int) -> None:
    with archive.open(info) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 1024 * 1024)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
