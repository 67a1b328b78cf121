"""What earlier processes read, checked and built of the models: Airflow parses all of them again every 30 seconds.

An entry counts only while each file that it was made of has the same bytes. Entries lie in a folder that is named after
everything else that they depend on: modelway's code, Airflow, the members of the ports, and the settings.
"""

import hashlib
import io
import logging
import os
import pickle
import platform
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import pydantic

import modelway
from modelway import ports
from modelway.fields.refusal import Refusal
from modelway.folders import airflow_config, home_folder
from modelway.spec.files import read_bytes

FOLDER = "parsed"
#: folders of other settings that are kept: a DAG processor and a worker may differ in theirs
_OTHERS = 3
_PREFIXES = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "MODELWAY_")
_PORTS = ("backends", "builders", "endpoints")
_log = logging.getLogger(__name__)


class ParseCache:
    """The entries of the models of one folder; any failure of the cache is as if there were no entry."""

    def __init__(self, models: Path, *, versions: tuple[str, ...], writes: bool) -> None:
        """Open the cache.

        :param models: the folder of the models; entries hold paths in it relative to it
        :param versions: of what entries depend on besides modelway, Python and pydantic
        :param writes: whether ``store`` writes: a starting task does not
        """
        self._models, self._writes = models.absolute(), writes
        self._sources: dict[Path, Mapping[str, bytes]] = {}
        self._digests: dict[str, bytes | None] = {}
        self._folder = _own_folder(versions, writes=writes)

    def load(self, file: Path, part: str) -> Any:
        """Return what was stored of a model; None where nothing was, or where one of its files has changed since.

        :param file: the model's ``model.yaml``
        """
        if self._folder is None:
            return None
        try:
            with open(self._entry(self._folder, file, part), "rb") as entry:
                sources, content = pickle.load(entry)
            if not self._is_current(file, sources):
                return None
            found = _Reader(io.BytesIO(content), self._models).load()
        except FileNotFoundError:
            return None
        # Also what unpickling a damaged file raises, which may be anything.
        except Exception as error:
            _log.debug("the entry of %s is not usable: %s", file, error)
            return None
        self._sources[file] = sources
        return found

    def store(self, file: Path, part: str, value: object, *, sources: Mapping[Path, bytes] | None = None) -> None:
        """Store what was read or built of a model.

        :param sources: by file, the SHA-256 of what was read of it; default: those of what was loaded or stored of this
            model before, and nothing is stored where there was nothing
        """
        if self._folder is None or not self._writes:
            return
        if sources is not None:
            self._sources[file] = {os.path.relpath(path, self._models): digest for path, digest in sources.items()}
        if (named := self._sources.get(file)) is None:
            return
        entry = self._entry(self._folder, file, part)
        beside = entry.with_name(f".{entry.name}.{os.getpid()}")
        try:
            content = io.BytesIO()
            _Writer(content, self._models).dump(value)
            beside.write_bytes(pickle.dumps((named, content.getvalue()), pickle.HIGHEST_PROTOCOL))
            os.replace(beside, entry)
        except Exception as error:
            _log.debug("nothing is stored of %s: %s", file, error)
            beside.unlink(missing_ok=True)

    @staticmethod
    def _entry(folder: Path, file: Path, part: str) -> Path:
        return folder / f"{file.parent.name}.{part}"

    def _is_current(self, file: Path, sources: Mapping[str, bytes]) -> bool:
        """Return whether all files are as they were; what this process read of the model decides, where it did."""
        if (known := self._sources.get(file)) is not None:
            return known == sources
        return all(self._digest(name) == digest for name, digest in sources.items())

    def _digest(self, name: str) -> bytes | None:
        if name not in self._digests:
            try:
                # Where a link leads was checked when the entry was made; it matters no more if the content is the same.
                self._digests[name] = hashlib.sha256(read_bytes(self._models / name)).digest()
            except Refusal:
                self._digests[name] = None
        return self._digests[name]


class _Writer(pickle.Pickler):
    """Writes paths in the folder of the models as relative ones: a snapshot of it has the same models elsewhere."""

    def __init__(self, file: io.BytesIO, models: Path) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._models = models

    def persistent_id(self, obj: object) -> str | None:
        if isinstance(obj, PurePath) and obj.is_relative_to(self._models):
            return str(obj.relative_to(self._models))
        return None


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, models: Path) -> None:
        super().__init__(file)
        self._models = models

    def persistent_load(self, pid: str) -> Path:
        return self._models / pid


def _own_folder(versions: tuple[str, ...], *, writes: bool) -> Path | None:
    """Return the folder of the entries; None where there is none, or where others may write to it."""
    home = home_folder()
    above = home / FOLDER
    try:
        folder = above / _surroundings(versions)
        if writes and not folder.is_dir():
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            above.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _remove_others(above, folder)
        status = os.lstat(folder)
    except OSError as error:
        _log.debug("%s is not usable: %s", above, error)
        return None
    # Reading an entry runs what it says.
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if is_ours else None


def _remove_others(above: Path, folder: Path) -> None:
    """Remove the folders of other versions and settings but for the newest ones."""
    others = sorted((each for each in above.iterdir() if each != folder), key=lambda each: each.lstat().st_mtime_ns)
    for each in others[:-_OTHERS]:
        shutil.rmtree(each, ignore_errors=True)


def _surroundings(versions: tuple[str, ...]) -> str:
    """Return a name for all that an entry depends on besides the files of its model."""
    digest = hashlib.sha256()
    for part in (*versions, *_code(), *_settings()):
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:24]


@cache
def _code() -> tuple[str, ...]:
    """Return the versions of what is imported, and the stamps of its files: a checkout changes under one version."""
    installed = [entry for port in _PORTS for entry in ports.installed(port).values()]
    folders = [Path(modelway.__file__).parent]
    folders += [Path(file).parent for entry in installed if (file := _file_of(entry.module))]
    python = f"{platform.python_version()} {sys.implementation.cache_tag}"
    stamps = (stamp for each in folders for stamp in _stamps(str(each)))
    return (python, pydantic.VERSION, *map(str, installed), *stamps)


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _stamps(folder: str) -> Iterator[str]:
    """Yield name, size and time of each Python file below a folder."""
    yield folder
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.name} {status.st_size} {status.st_mtime_ns}"
            elif entry.is_dir() and not entry.name.startswith((".", "__pycache__")):
                yield from _stamps(entry.path)


def _settings() -> Iterator[str]:
    """Yield modelway's and Airflow's settings."""
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES))
    try:
        yield airflow_config().read_text("utf-8", "surrogateescape")
    except OSError:
        yield ""
