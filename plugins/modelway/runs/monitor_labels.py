"""Labels that come in a data set: each check of the monitor adds what came since the last one."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from modelway.artifacts.dataset_rows import Place, read_new_rows
from modelway.lineage.records.monitoring import AddedLabels
from modelway.lineage.records.readable import plural
from modelway.lineage.records.values import storable

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

#: rows of a data set that one check reads, and labels of one transaction
MOST_ROWS, _AT_ONCE = 50_000, 5_000
#: servers retain predictions of requests with ids of 200 characters, and add the number of a row
_LONGEST_ID = 250


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """The data set whose rows are labels, and its columns."""

    dataset: str
    uri: str
    key: str
    column: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        return cls(**data)


def add_new_labels(
    source: LabelSource, memory: Mapping[str, Any], store: "Lineage", *, model: str
) -> tuple[dict[str, Any], str]:
    """Add the labels of a model that came since ``memory``; return what to remember next, and a text about them.

    Where a check is not written, the next one reads the same rows again, which changes nothing. A data set that is
    unavailable is a part of the text, and read by a later check from where it was.

    :param memory: what an earlier call returned; of another source it says nothing
    :raises ModelwayError: the lineage does not answer
    """
    of = source.to_dict()
    places = memory.get("places", {}) if memory.get("of") == of else {}
    found = read_new_rows(
        source.uri,
        name=source.dataset,
        columns=(source.key, source.column),
        places={file: Place.from_list(place) for file, place in places.items()},
        most=MOST_ROWS,
    )
    labels = [label for row in found.rows if (label := _label(row)) is not None]
    added = _added(store, model, dict(labels), actor=f"data set {source.dataset}")
    texts = []
    if found.rows:
        counted = f"{added.new:,} new, {added.changed:,} changed, {added.same:,} as before"
        texts.append(f"labels of data set {source.dataset}: {counted}")
        if added.unknown:
            texts.append(f"{added.unknown:,} of requests that are not known, or not yet")
        if without := len(found.rows) - len(labels):
            texts.append(f"{plural(without, 'row')} without an id or a number")
        if found.has_more:
            texts.append("the next check reads on")
    sentences = [", ".join(texts)] if texts else []
    if found.problem:
        sentences.append(f"labels of data set {source.dataset} unavailable: {found.problem}")
    return {"of": of, "places": {file: place.to_list() for file, place in found.places.items()}}, "; ".join(sentences)


def _added(store: "Lineage", model: str, labels: Mapping[str, float], *, actor: str) -> AddedLabels:
    total, pairs = AddedLabels(), list(labels.items())
    for at in range(0, len(pairs), _AT_ONCE):
        one = store.monitoring.add_labels(model, dict(pairs[at : at + _AT_ONCE]), actor=actor)
        total = AddedLabels(**{name: value + vars(one)[name] for name, value in vars(total).items()})
    return total


def _label(row: tuple[object, ...]) -> tuple[str, float] | None:
    """Return the id of a request and its label; None where the row lacks one of them."""
    if not row or not isinstance(row[0], str | int) or not isinstance(row[1], str | int | float):
        return None
    name = str(row[0]).strip()
    try:
        value = float(row[1])
    except (ValueError, OverflowError):
        return None
    is_id = 0 < len(name) <= _LONGEST_ID and storable(name) == name
    return (name, value) if is_id and math.isfinite(value) else None
