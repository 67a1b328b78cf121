"""The working folder of an asset: its files, and one hidden file that says which of them belong to it."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from modelway.artifacts.asset_names import RECORD, check_asset_name, check_asset_path
from modelway.artifacts.store import file_digest
from modelway.artifacts.whole_files import replace_file
from modelway.errors import ModelwayError, NotWritable

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class AssetDraft:
    """An asset's folder record: ``files`` are paths within it, ``references`` versions of other assets by name."""

    name: str
    description: str = ""
    files: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    """Set when it is uploaded."""
    version: int | None = None
    """The version that was uploaded or downloaded last."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The files of that version."""


class AssetFolder:
    """One asset's folder; made by ``init_folder`` or by a download."""

    def __init__(self, place: Path) -> None:
        """Use the folder ``place`` without touching it."""
        self.place = place

    @property
    def is_there(self) -> bool:
        """Whether it is an asset's folder."""
        return (self.place / RECORD).is_file()

    def read(self) -> AssetDraft:
        """Return the folder's record.

        :raises ModelwayError: it is not an asset's folder, or its record cannot be read
        """
        path = self.place / RECORD
        try:
            data = json.loads(path.read_text())
            fields = {key: data[key] for key in ("name", "description", "files", "references", "aliases")}
            draft = AssetDraft(**fields, version=data["version"], digests=data["digests"])
            check_asset_name(draft.name)
            for file in draft.files:
                check_asset_path(file)
            return draft
        except FileNotFoundError:
            do = f"modelway asset init {self.place.name}, or go to the folder that holds it"
            raise ModelwayError("there is no asset's folder", where=str(self.place), do=do) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelwayError(
                f"the asset's record cannot be read ({error})", where=str(path), do="Remove it and init the asset again"
            ) from error

    def write(self, draft: AssetDraft) -> None:
        """Write the folder's record."""
        with _writing(self.place):
            data = json.dumps({"format": _FORMAT, **asdict(draft)}, indent=1, ensure_ascii=False)
            replace_file(path=self.place / RECORD, data=data.encode() + b"\n")

    def add(self, sources: Sequence[Path], *, path: str | None = None) -> list[str]:
        """Add files, and folders with all in them that is not hidden; what is elsewhere is copied to the folder.

        :param path: the path of the only source within the asset
        :raises ModelwayError: something is not a regular file, is a link, or has a path that cannot be used
        """
        draft, added = self.read(), []
        if path is not None and len(sources) != 1:
            raise ModelwayError(f"--as names one file or folder, not {len(sources)}", do="Add them one by one")
        for source in sources:
            for file, target in _files_of(source, path or self._own_path(source)):
                check_asset_path(target)
                self._take(file, target)
                added.append(target)
        self.write(replace(draft, files=sorted({*draft.files, *added})))
        return added

    def drop(self, paths: Sequence[str]) -> None:
        """Remove files from the asset; they stay where they are.

        :raises ModelwayError: one was never added
        """
        draft = self.read()
        if missing := [path for path in paths if path not in draft.files]:
            raise ModelwayError(f"asset '{draft.name}' has no file '{missing[0]}'", known=draft.files, given=missing[0])
        self.write(replace(draft, files=[path for path in draft.files if path not in paths]))

    def file(self, path: str) -> Path:
        """Return where a file of the asset is.

        :raises ModelwayError: it does not exist, or it or a folder above it is a link
        """
        check_asset_path(path)
        place = self.place
        for part in path.split("/"):
            place = place / part
            if place.is_symlink():
                raise _refuse_link(place)
        if not place.is_file():
            raise ModelwayError(
                f"'{path}' is not a file of the folder now",
                where=str(self.place),
                do=f"Put it back, or leave it out: modelway asset add {self.place.name} --remove {path}",
            )
        return place

    def free_place(self, path: str, *, digest: str) -> Path | None:
        """Return where a file that is downloaded goes, None when it is there already.

        :raises ModelwayError: something else is there that this folder's last version does not have, or a link
        """
        check_asset_path(path)
        place = self.place / path
        for parent in [place, *place.parents]:
            if parent == self.place:
                break
            if parent.is_symlink():
                raise _refuse_link(parent)
        if not place.exists():
            return place
        found = file_digest(place) if place.is_file() else ""
        if found == digest:
            return None
        known = self.read().digests.get(path) if self.is_there else None
        if found and found == known:
            return place
        raise ModelwayError(
            f"'{path}' is there already and is another file than the asset's",
            where=str(self.place),
            do="Move it away, or download to another folder with --to",
        )

    def _own_path(self, source: Path) -> str:
        """Return the path of a source within the asset: its path in the folder, else its own name."""
        inside = Path(os.path.abspath(source))
        folder = Path(os.path.abspath(self.place))
        return inside.relative_to(folder).as_posix() if inside.is_relative_to(folder) else inside.name

    def _take(self, source: Path, path: str) -> None:
        target = self.place / path
        if target.exists() and target.samefile(source):
            self.file(path)
            return
        parent = target.parent
        while parent != self.place:
            if parent.is_symlink():
                raise _refuse_link(parent)
            parent = parent.parent
        beside = target.with_name(f".{uuid.uuid4().hex}.part")
        with _writing(self.place):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, beside, follow_symlinks=False)
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)


def init_folder(parent: Path, name: str, *, description: str | None = None) -> AssetFolder:
    """Make an asset's folder in ``parent``, or add a record to an existing folder; repeating it changes nothing.

    :raises ModelwayError: the name cannot be used, or a file is in its place
    """
    folder = AssetFolder(parent / check_asset_name(name))
    if folder.place.is_symlink() or (folder.place.exists() and not folder.place.is_dir()):
        raise ModelwayError("something else than a folder is there", where=str(folder.place), do="Move it away")
    with _writing(parent):
        folder.place.mkdir(parents=True, exist_ok=True)
    draft = folder.read() if folder.is_there else AssetDraft(name=name)
    folder.write(draft if description is None else replace(draft, description=description))
    return folder


def _files_of(source: Path, path: str) -> list[tuple[Path, str]]:
    """Return the files that a source stands for, each with its path within the asset."""
    if source.is_symlink():
        raise _refuse_link(source)
    if source.is_file():
        return [(source, path)]
    if not source.is_dir():
        what = "is not a regular file" if source.exists() else "is not there"
        raise ModelwayError(f"'{source}' {what}", do="Name a file, or a folder with files")
    prefix = "" if path == "." else f"{path}/"
    found = []
    for base, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in [*names, *folders] if not name.startswith(".")):
            each = Path(base) / name
            if each.is_symlink():
                raise _refuse_link(each)
            if each.is_file():
                found.append((each, prefix + each.relative_to(source).as_posix()))
    if not found:
        raise ModelwayError(f"the folder '{source}' has no files", do="Name a file, or a folder with files")
    return found


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise NotWritable(
            f"the folder cannot be written ({reason})", where=str(folder), do="Make it writable and leave it space"
        ) from error


def _refuse_link(place: Path) -> ModelwayError:
    return ModelwayError(
        "a link cannot be a file of an asset, nor lie on the way to one",
        where=str(place),
        do="Put the file itself there",
    )
