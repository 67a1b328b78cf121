"""Rows written many at a time: on PostgreSQL as one statement, whose text is the same for one row and for thousands."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import JSON, Connection, Insert, Table, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects import postgresql, sqlite

#: JSON never contains it: one string is sent faster than an array of texts as long as a metric's points
_BREAK = "\n"


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns; none may exist yet."""
    _insert(connection, table, rows, only_new=False)


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows that do not exist yet, by the table's unique keys."""
    _insert(connection, table, rows, only_new=True)


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, only_new: bool) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        names = tuple(rows[0])
        columns = {f"all_{name}": _column(table, name, [row[name] for row in rows]) for name in names}
        connection.execute(_from_columns(table, names, only_new=only_new), columns)
    else:
        connection.execute(_row_by_row(table, only_new=only_new), rows)


@cache
def _row_by_row(table: Table, *, only_new: bool) -> Insert:
    into = sqlite.insert(table).inline()
    return into.on_conflict_do_nothing() if only_new else into


def _column(table: Table, name: str, values: list[Any]) -> Any:
    if not isinstance(table.c[name].type, JSON):
        return values
    # Metrics that were logged together have their steps in one and the same list.
    texts = {key: json.dumps(value) for key, value in {id(value): value for value in values}.items()}
    return _BREAK.join(texts[id(value)] for value in values)


@cache
def _from_columns(table: Table, names: tuple[str, ...], *, only_new: bool) -> Insert:
    """Return the statement that takes the rows as one parameter for each column."""
    kinds = {name: table.c[name].type for name in names}
    parts = [
        func.string_to_array(bindparam(f"all_{name}", type_=Text()), _BREAK)
        if isinstance(kind, JSON)
        else cast(bindparam(f"all_{name}", type_=postgresql.ARRAY(kind)), postgresql.ARRAY(kind))
        for name, kind in kinds.items()
    ]
    given = func.unnest(*parts).table_valued(*(column(name) for name in names), name="given").render_derived()
    chosen = (cast(given.c[name], kind) if isinstance(kind, JSON) else given.c[name] for name, kind in kinds.items())
    into = postgresql.insert(table).inline().from_select(names, select(*chosen))
    return into.on_conflict_do_nothing() if only_new else into
