"""Writes the failed attempts of tasks as they happen, and which later attempts resolved them."""

from dataclasses import asdict

from sqlalchemy import Connection, update
from sqlalchemy.dialects import postgresql, sqlite

from modelway.lineage.records.values import storable
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.schema.engine import writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import failures

#: a longer line of a log is cut: a progress bar can be one line of megabytes
LONGEST_LINE = 2000
_UNIQUE = ("dag_id", "run_id", "key", "attempt")


class FailureWriter(LineagePart):
    """Writes failed attempts."""

    def record_failure(self, record: FailureRecord) -> None:
        """Record that an attempt of a task failed; the same attempt again replaces the earlier record."""
        with writing(self._engine) as connection:
            _write(connection, record)

    def record_resolved(self, *, dag_id: str, run_id: str, key: str, attempt: int) -> int:
        """Record that an attempt succeeded, and return how many failed attempts before it that resolves."""
        query = update(failures).filter_by(dag_id=dag_id, run_id=run_id, key=key)
        query = query.where(failures.c.attempt < attempt, failures.c.resolved_by.is_(None))
        with writing(self._engine) as connection:
            return connection.execute(query.values(resolved_by=attempt)).rowcount


def _write(connection: Connection, record: FailureRecord) -> None:
    row = {name: storable(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
    row["last_lines"] = [storable(line)[:LONGEST_LINE] for line in record.last_lines]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    news = {name: value for name, value in row.items() if name not in _UNIQUE}
    connection.execute(dialect.insert(failures).values(row).on_conflict_do_update(index_elements=_UNIQUE, set_=news))
