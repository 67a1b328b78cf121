"""The rows of a data set that were not read before: from files of lines (CSV, JSON lines) that grow or are added, and
from Parquet files that are added or replaced.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Self

from modelway.artifacts.dataset import file_system, local_path, reported_content, stored_files
from modelway.artifacts.parquet_rows import is_whole, rows_after
from modelway.errors import DatasetUnavailable, InvalidDataset, ModelwayError

CSV, JSON_LINES, PARQUET = (".csv",), (".jsonl", ".ndjson"), (".parquet", ".pq")
#: files of a folder at most: of each it is remembered how far it was read
MOST_FILES = 1000
_LONGEST_LINE = 1024 * 1024
#: bytes before a place by which a file that was replaced is noticed
_GUARD = 1024
_DO = "Write CSV with a header (.csv), JSON lines (.jsonl, .ndjson) or Parquet (.parquet, .pq)"
#: in place of a guard: all rows of a Parquet file were read
_ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a file was read: what its store said of it then, and the digest of what is before the place.

    Of a Parquet file ``offset`` is a number of rows, and ``guard`` says whether all were read.
    """

    state: str = ""
    offset: int = 0
    guard: str = ""

    def to_list(self) -> list[Any]:
        """Return plain JSON."""
        return [self.state, self.offset, self.guard]

    @classmethod
    def from_list(cls, found: Sequence[Any]) -> Self:
        """Read what :meth:`to_list` returned."""
        return cls(state=found[0], offset=found[1], guard=found[2])


@dataclass(kw_only=True)
class NewRows:
    """What was read of a data set."""

    #: of each row the values of the columns; of a line that lacks one, nothing
    rows: list[tuple[object, ...]] = field(default_factory=list)
    #: by file, what to continue from
    places: dict[str, Place] = field(default_factory=dict)
    #: why some of it was not read; empty where all was
    problem: str = ""
    #: there is more than was wanted at once
    has_more: bool = False


def read_new_rows(uri: str, *, name: str, columns: tuple[str, ...], places: Mapping[str, Place], most: int) -> NewRows:
    """Return the rows of a data set after the places that an earlier call returned, a file after another by name.

    What cannot be read is the result's ``problem``: its place stays, and other files are read all the same. A file
    whose content before its place changed is read from its beginning. A last line without an end waits until its file
    has not changed between two calls.

    :param uri: of a file, or of a folder with files
    :param columns: the names of the columns to read, or keys of the objects
    :param most: rows that are read at once
    """
    found = NewRows(places=dict(places))
    try:
        fs, files = _files(uri, name=name)
    except ModelwayError as error:
        found.problem = str(error)
        return found
    found.places = {file: place for file, place in places.items() if file in files}
    for file, info in files.items():
        before, state = places.get(file, Place()), _state(info)
        is_parquet = _is(file, PARQUET)
        # The rows of a Parquet file may be more than its bytes.
        is_read = before.guard == _ALL if is_parquet else before.offset >= int(info.get("size") or 0)
        if before.state == state and is_read:
            continue
        read = _read_parquet if is_parquet else _read_lines
        try:
            with fs.open(file, "rb") as opened:
                read(opened, found, name=file, columns=columns, state=state, most=most)
        # Each store raises errors of its own.
        except Exception as error:
            why = str(error) if isinstance(error, ModelwayError) else f"{type(error).__name__}: {error}"
            after = found.places.get(file, Place()).offset
            unit = "row" if read is _read_parquet else "byte"
            found.problem = found.problem or f"{file} cannot be read after {unit} {after:,}: {why}"
        if len(found.rows) >= most:
            found.has_more = True
            break
    return found


class _Unfinished(Exception):
    """What follows is not written to its end, as far as is known."""


def _files(uri: str, *, name: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Return the file system of a data set, and what it says of each of its files of rows."""
    path = local_path(uri)
    known = stored_files(uri := str(path) if path else uri, name=name)
    if known is None:
        raise DatasetUnavailable(
            f"nothing here reads {uri.partition(':')[0]}://", where=uri, do="Install the fsspec package of that store"
        )
    files = {file: known[file] for file in sorted(known) if _is(file, CSV + JSON_LINES + PARQUET)}
    if not files:
        raise InvalidDataset(f"data set '{name}' has no file of rows", where=uri, do=_DO)
    if len(files) > MOST_FILES:
        what = f"data set '{name}' has {len(files):,} files of rows, more than {MOST_FILES:,}"
        raise InvalidDataset(what, where=uri, do="Move old files elsewhere, or join them")
    return file_system(uri)[0], files


def _is(file: str, suffixes: Sequence[str]) -> bool:
    return PurePosixPath(file).suffix.lower() in suffixes


def _state(info: Mapping[str, Any]) -> str:
    """Return what distinguishes a file's content, as far as its store says."""
    return hashlib.sha256(f"{info.get('size')} {reported_content(info)}".encode()).hexdigest()[:16]


def _read_parquet(file: BinaryIO, found: NewRows, *, name: str, columns: Sequence[str], state: str, most: int) -> None:
    """Add the rows of a Parquet file after its place: such a file is written once, a changed one is another file."""
    before = found.places.get(name, Place())
    is_settled = before.state == state
    if not is_settled and not is_whole(file):
        found.places[name] = Place(state=state)
        return
    offset, guard = before.offset if is_settled else 0, ""
    try:
        for row in rows_after(file, offset, columns):
            found.rows.append(row)
            offset += 1
            if len(found.rows) >= most:
                break
        else:
            guard = _ALL
    finally:
        found.places[name] = Place(state=state, offset=offset, guard=guard)


def _read_lines(file: BinaryIO, found: NewRows, *, name: str, columns: Sequence[str], state: str, most: int) -> None:
    """Add the rows of a file after its place, and the place after them."""
    before = found.places.get(name, Place())
    is_settled = before.state == state
    rows = _csv_rows if _is(name, CSV) else _objects
    offset = before.offset if before.guard == _guard(file, before.offset) else 0
    try:
        for row, after in rows(_Lines(file, is_settled=is_settled), offset, columns):
            offset = after
            if row is not None:
                found.rows.append(row)
            if len(found.rows) >= most:
                break
    except _Unfinished:
        pass
    finally:
        found.places[name] = Place(state=state, offset=offset, guard=_guard(file, offset))


def _guard(file: BinaryIO, offset: int) -> str:
    begin = max(0, offset - _GUARD)
    file.seek(begin)
    return hashlib.sha256(file.read(offset - begin)).hexdigest()[:16] if offset else ""


class _Lines:
    """The lines of a file, and where the last one of them ended."""

    def __init__(self, file: BinaryIO, *, is_settled: bool) -> None:
        self._file = file
        self._is_settled = is_settled
        self.offset = 0

    def after(self, offset: int) -> Iterator[str]:
        """Yield the lines after a place.

        :raises _Unfinished: at the end of a file that may be written right now
        """
        self._file.seek(offset)
        self.offset, rest = offset, b""
        while block := self._file.read(_LONGEST_LINE):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self.offset += len(line) + 1
                yield line.decode(errors="replace") + "\n"
            if len(rest) > _LONGEST_LINE:
                raise InvalidDataset("a line is longer than 1 MiB", do=_DO)
        if not self._is_settled:
            raise _Unfinished
        if rest:
            self.offset += len(rest)
            yield rest.decode(errors="replace")


#: a row, None for an empty line, with the place after it
_Rows = Iterator[tuple[tuple[object, ...] | None, int]]


def _csv_rows(lines: _Lines, offset: int, columns: Sequence[str]) -> _Rows:
    header = next(csv.reader(lines.after(0)), [])
    known = [each.strip() for each in header]
    known[:1] = [each.removeprefix("\ufeff") for each in known[:1]]
    if missing := [each for each in columns if each not in known]:
        raise InvalidDataset(f"there is no column '{missing[0]}'", known=known[:50], given=missing[0])
    at = [known.index(each) for each in columns]
    for row in csv.reader(lines.after(offset or lines.offset)):
        values = tuple(row[each] for each in at) if len(row) == len(known) else ()
        yield values if row else None, lines.offset


def _objects(lines: _Lines, offset: int, columns: Sequence[str]) -> _Rows:
    for line in lines.after(offset):
        yield _object(line, columns) if line.strip() else None, lines.offset


def _object(line: str, columns: Sequence[str]) -> tuple[object, ...]:
    try:
        found = json.loads(line)
    except ValueError:
        return ()
    has_all = isinstance(found, dict) and all(each in found for each in columns)
    return tuple(found[each] for each in columns) if has_all else ()
