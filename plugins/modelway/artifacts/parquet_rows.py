"""The rows of a Parquet file after a row, of the wanted columns alone, a batch at a time."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from modelway.errors import CapabilityMissing, InvalidDataset

#: the end of a whole file: its writer adds the footer, which says where the columns are, at last
_MAGIC = b"PAR1"
_ROWS_AT_ONCE = 10_000


def is_whole(file: BinaryIO) -> bool:
    """Return whether a file was written to its end, as far as its last bytes say."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_MAGIC)))
    return file.read() == _MAGIC


def rows_after(file: BinaryIO, offset: int, columns: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield the values of the columns of each row after the first ``offset`` ones; a null is None.

    :param columns: their names: first the one with ids, which are text or whole numbers, then the one with numbers
    :raises CapabilityMissing: pyarrow is not installed
    :raises InvalidDataset: a column is not there, or of a type that holds neither
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        do = "Install modelway[parquet] where triggerers and workers run, or write CSV or JSON lines"
        raise CapabilityMissing("pyarrow is not installed here, which reads Parquet", do=do) from error

    with ParquetFile(file, pre_buffer=False) as opened:
        for name, of_numbers in zip(columns, (False, True), strict=True):
            _check(opened.schema_arrow, name, of_numbers=of_numbers)
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if offset >= rows:
                offset -= rows
                continue
            batches = opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=list(columns), use_threads=False)
            for batch in batches:
                rest = batch.slice(offset)
                offset = max(0, offset - len(batch))
                values = [_plain(rest.column(name)) for name in columns]
                yield from zip(*values, strict=True)


def _check(schema: Any, name: str, *, of_numbers: bool) -> None:
    """Check the type of a column.

    :raises InvalidDataset: it is not there, or its values are no ids or no numbers
    """
    import pyarrow.types as types

    if name not in schema.names:
        raise InvalidDataset(f"there is no column '{name}'", known=schema.names[:50], given=name)
    found = schema.field(name).type
    plain = found.value_type if types.is_dictionary(found) else found
    is_text = types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain)
    if is_text or types.is_integer(plain) or types.is_null(plain):
        return
    if not of_numbers:
        do = "Write the ids of requests as text or whole numbers, with nulls of that type where there is none"
        raise InvalidDataset(f"the column '{name}' has values of the type {found}, which are no ids of requests", do=do)
    if not (types.is_floating(plain) or types.is_boolean(plain) or types.is_decimal(plain)):
        what = f"the column '{name}' has values of the type {found}, which are no numbers"
        raise InvalidDataset(what, do="Write labels as numbers: of a class its number")


def _plain(column: Any) -> list[object]:
    """Return a column's values as Python has them; decimals as numbers."""
    import pyarrow.types as types

    values: list[Any] = column.to_pylist()
    if not types.is_decimal(column.type):
        return values
    return [None if each is None else float(each) for each in values]
