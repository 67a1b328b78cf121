"""What a list says of each version beside its row, by the version's key, in two statements however many there are.

Each function works inside the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    bindparam,
    cast,
    literal_column,
    null,
    select,
    union_all,
)

from modelway.lineage.read.batches import batches
from modelway.lineage.records.values import NON_FINITE
from modelway.lineage.records.version import ImageRecord
from modelway.lineage.schema.columns import Text, UtcTime
from modelway.lineage.schema.tables import aliases, deployments, events, images, version_metrics, versions

_KEYS: BindParameter[Any] = bindparam("keys", expanding=True)


@dataclass(frozen=True)
class SummaryParts:
    """What versions have, by their keys; a version that has none of a kind is not there."""

    aliases: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    images: dict[int, ImageRecord] = field(default_factory=dict)
    """The newest of each."""
    weights: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    verifications: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)


def read_metrics(connection: Connection, keys: Sequence[int]) -> Mapping[int, dict[str, float | None]]:
    """Return the metrics of versions."""
    numbers: dict[int, dict[str, float | None]] = defaultdict(dict)
    for some in batches(keys):
        # All at once: a driver that returns them row by row takes several times as long. Unpacked: a name of each row's
        # column would cost more than the row.
        for version, name, value, flag in connection.execute(_metrics(), {"keys": some}).all():
            numbers[version][name] = NON_FINITE[flag] if flag else value
    return numbers


def read_parts(connection: Connection, keys: Sequence[int]) -> SummaryParts:
    """Return the other parts: few rows of each version, so that an answer of the database costs more than they do."""
    found, newest = SummaryParts(), defaultdict[int, int](int)
    for some in batches(keys):
        rows = connection.execute(_parts(), {"keys": some}).all()
        for kind, version, name, digest, reference, number, at, detail in sorted(rows, key=lambda row: row[2]):
            if kind == "alias":
                found.aliases[version].append(name)
            elif kind == "weight":
                found.weights[version][name] = number
            elif kind == "event":
                found.verifications[version] = detail.get("verification")
            elif number > newest[version]:
                newest[version] = number
                found.images[version] = ImageRecord(builder=name, digest=digest, reference=reference, created_at=at)
    return found


@cache
def _metrics() -> Select[Any]:
    columns = version_metrics.c
    return select(columns.version, columns.name, columns.value, columns.flag).where(columns.version.in_(_KEYS))


@cache
def _parts() -> CompoundSelect[Any]:
    """Return the query of all parts; cached: compiling it costs more than running it."""
    text, time, data = cast(null(), Text), cast(null(), UtcTime), cast(null(), events.c.detail.type)
    zero: ColumnElement[int] = literal_column("0")
    empty = cast(literal_column("''"), Text)
    built = (images.c.builder, images.c.digest, images.c.reference, images.c.id, images.c.created_at, data)
    # What a kind does not have is nothing of the same type, else PostgreSQL refuses the union.
    queries = (
        ("image", images, built),
        ("alias", aliases, (aliases.c.name, text, text, zero, time, data)),
        ("weight", deployments, (deployments.c.endpoint, text, text, deployments.c.weight, time, data)),
        ("event", events, (empty, text, text, zero, time, events.c.detail)),
    )
    # The keys stand once in the statement, and with no other value: the driver remembers how to send one of at most 50.
    wanted = select(versions.c.id).where(versions.c.id.in_(_KEYS)).cte("wanted")
    found = [
        select(literal_column(f"'{kind}'").label("kind"), table.c.version, *columns).join_from(
            table, wanted, table.c.version == wanted.c.id
        )
        for kind, table, columns in queries
    ]
    found[-1] = found[-1].where(events.c.kind == literal_column("'version-registered'"))
    return union_all(*found)
