"""What the tables of the lineage share: types that SQLite and PostgreSQL have, keys, and the names of constraints."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Column, DateTime, Dialect, ForeignKey, Integer, MetaData, TypeDecorator

from modelway.lineage.records.values import storable


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored in UTC; SQLite has no time zones, so UTC is added on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Turn an aware time into UTC.

        :raises ValueError: the time has no zone
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the time with its zone."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Text(TypeDecorator[str]):
    """Text that both databases accept: without NUL and lone surrogates, which PostgreSQL rejects."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave out what cannot be stored; a lookup leaves it out, too."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return storable(value)


#: an identity column: SQLite counts only in a column of type INTEGER, PostgreSQL may need more than 32 bits
Id = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key() -> Column[int]:
    """Return a table's own key, which the database counts."""
    return Column("id", Id, primary_key=True)


def reference(name: str, table: str, *, nullable: bool = False) -> Column[int]:
    """Return a column that refers to the key of another table."""
    return Column(name, Id, ForeignKey(f"{table}.id"), nullable=nullable)
