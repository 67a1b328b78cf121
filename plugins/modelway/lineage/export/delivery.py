"""Send the rows of the outbox: in order for each exporter, at least once, never by two senders at the same time.

A short transaction claims the first pending row, the request is sent outside of any, and another transaction records
the outcome. A sender that was killed meanwhile leaves a claim that expires.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select, update

from modelway.errors import ExporterUnavailable, ModelwayError
from modelway.lineage.export.outbox import WAITING
from modelway.lineage.export.run_facts import run_from_dict
from modelway.lineage.exporters.base import Destination, Exporter, Fact, connect_exporter
from modelway.lineage.read import queries
from modelway.lineage.records.exports import Delivery
from modelway.lineage.schema.asset_tables import outbox
from modelway.lineage.schema.engine import reading, writing

_log = logging.getLogger(__name__)
#: how long one fact may take
FACT_SECONDS = 60.0
#: a claim lasts far longer than one fact may take: no second sender may start while the first one can still finish
CLAIM = timedelta(seconds=FACT_SECONDS + 60)
_LONGEST_ERROR = 2000
_RECORD_SECONDS = 1.0


def deliver(engine: Engine, destinations: Iterable[Destination], *, until: float) -> list[Delivery]:
    """Send the pending rows, each exporter on its own, and return by about ``until`` (``time.monotonic()``).

    :raises ModelwayError: the lineage database does not answer
    """
    senders = [_Sender(engine, destination, until=until) for destination in destinations]
    for sender in senders:
        sender.start()
    for sender in senders:
        # A request ends by itself when the time is over; its outcome is then still to be recorded.
        sender.join(max(0.0, until + _RECORD_SECONDS - time.monotonic()))
    return [sender.outcome() for sender in senders]


class _Sender(threading.Thread):
    """Sends one exporter's rows; a daemon thread, so that a process can end while the other side hangs."""

    def __init__(self, engine: Engine, destination: Destination, *, until: float) -> None:
        super().__init__(daemon=True, name=f"export to {destination.exporter}")
        self._engine, self._destination, self._until = engine, destination, until
        self._sent = self._refused = 0
        self._error = ""
        self._failure: Exception | None = None

    def outcome(self) -> Delivery:
        """Return the outcome so far.

        :raises ModelwayError: the lineage database does not answer
        """
        if self._failure is not None:
            raise self._failure
        error = self._error or (f"{self._destination.exporter} takes too long" if self.is_alive() else "")
        return Delivery(exporter=self._destination.exporter, sent=self._sent, refused=self._refused, error=error)

    def run(self) -> None:
        """Send row after row until none is pending, one cannot be sent, another sender is active, or time is up."""
        try:
            if _first(self._engine, self._destination.exporter) is None:
                return
            exporter = connect_exporter(self._destination)
            try:
                self._send_all(exporter)
            finally:
                exporter.close()
        except Exception as error:
            self._failure = error

    def _send_all(self, exporter: Exporter) -> None:
        while time.monotonic() < self._until:
            if not self._send_next(exporter):
                return
        if _first(self._engine, self._destination.exporter) is not None:
            self._error = self._error or f"{self._destination.exporter} takes too long"

    def _send_next(self, exporter: Exporter) -> bool:
        """Send the first pending row, and return whether to continue."""
        claim = _claim(self._engine, self._destination.exporter)
        if claim is None:
            return False
        until = min(self._until, time.monotonic() + FACT_SECONDS)
        try:
            exporter.export(_fact(self._engine, claim.row), until=until)
        except ExporterUnavailable as error:
            self._error = str(error)
            claim.release(self._engine, error=self._error, attempts=claim.row.attempts + 1)
            return False
        except Exception as error:
            # The next attempt would end the same way and block all rows after it.
            why = str(error) if isinstance(error, ModelwayError) else f"{type(error).__name__}: {error}"
            _log.warning("%s refused %s: %s", self._destination.exporter, claim.row.kind, why)
            self._refused += 1
            news = {"error": why, "attempts": claim.row.attempts + 1, "refused_at": datetime.now(UTC)}
            claim.release(self._engine, **news)
            return True
        self._sent += 1
        claim.release(self._engine, error="", attempts=claim.row.attempts + 1, sent_at=datetime.now(UTC))
        return True


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A row that no other sender may send until the claim expires."""

    row: Any
    until: datetime

    def release(self, engine: Engine, *, error: str, **news: Any) -> None:
        """Record the outcome, unless the claim expired and the row is another sender's."""
        ours = (outbox.c.id == self.row.id) & (outbox.c.claimed_until == self.until)
        values = news | {"claimed_until": None, "error": error.replace("\0", "")[:_LONGEST_ERROR]}
        with writing(engine) as connection:
            connection.execute(update(outbox).where(ours).values(values))


def _first(engine: Engine, exporter: str) -> Any:
    query = select(outbox).where(outbox.c.exporter == exporter, WAITING).order_by(outbox.c.id).limit(1)
    with reading(engine) as connection:
        return connection.execute(query).first()


def _claim(engine: Engine, exporter: str) -> _Claim | None:
    """Claim the first pending row; None where there is none, or another sender has claimed it."""
    row = _first(engine, exporter)
    if row is None:
        return None
    now, claimed = datetime.now(UTC), row.claimed_until
    # A claim further ahead than any claim can last was made before the clock was set back.
    if claimed is not None and now < claimed <= now + 2 * CLAIM:
        return None
    until = now + CLAIM
    # A sender that claimed it since it was read has changed that.
    same = outbox.c.claimed_until.is_not_distinct_from(claimed)
    with writing(engine) as connection:
        query = update(outbox).where(outbox.c.id == row.id, WAITING, same).values(claimed_until=until)
        is_ours = connection.execute(query).rowcount == 1
    return _Claim(row=row, until=until) if is_ours else None


def _fact(engine: Engine, row: Any) -> Fact:
    """Return the fact of a row, with the version that it is about."""
    detail = dict(row.fact)
    model, number, run = detail.pop("model"), detail.pop("version", None), detail.pop("run", None)
    version = None
    if number is not None:
        with reading(engine) as connection:
            version = queries.read_version(connection, name=model, number=number)
    own = version.run if version else run_from_dict(run)
    return Fact(kind=row.kind, at=row.at, model=model, run=own, detail=detail, version=version)
