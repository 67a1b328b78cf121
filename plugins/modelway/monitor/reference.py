"""The bins of a model's inputs and predictions, made of what freezing counted, and the counts of servers in them.

A feature is a column of a row, or all values of an input together where a row has many. Bins of numbers are made of
neighbouring buckets of the reference, about a tenth of its rows each; a category is a bin.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

BINS = 10
#: kinds of features: of numbers, of texts, of the best class among scores
NUMBERS, TEXTS, CLASSES = "numbers", "texts", "classes"
#: the sides of a document of counts, with the word for a feature of each
_SIDES = {"inputs": "input", "outputs": "output", "classes": "class"}
#: a document without "others" is of an earlier modelway: of so many texts or more, "" counts those besides
_MANY_TEXTS = 64


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Rows of one feature: in each bin, and beside that those that are missing or were never seen at freezing."""

    bins: tuple[int, ...] = ()
    #: not finite
    missing: int = 0
    #: beyond the reference's smallest and largest value, or of a category that it lacks; numbers are in a bin as well
    outside: int = 0
    #: of another kind than the reference's, such as texts in place of numbers
    other_kind: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.bins) + self.missing

    def plus(self, other: "Tally", sign: int = 1) -> "Tally":
        """Return both together, or what is new in this one, with ``sign`` -1; never less than none."""
        width = max(len(self.bins), len(other.bins))
        bins = (max(0, _at(self.bins, at) + sign * _at(other.bins, at)) for at in range(width))
        return Tally(
            bins=tuple(bins),
            missing=max(0, self.missing + sign * other.missing),
            outside=max(0, self.outside + sign * other.outside),
            other_kind=max(0, self.other_kind + sign * other.other_kind),
        )

    def to_list(self) -> list[Any]:
        """Return plain JSON."""
        return [list(self.bins), self.missing, self.outside, self.other_kind]

    @classmethod
    def from_list(cls, found: Sequence[Any]) -> Self:
        """Read what :meth:`to_list` returned."""
        return cls(bins=tuple(found[0]), missing=found[1], outside=found[2], other_kind=found[3])


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature with its bins, and what of it freezing counted."""

    key: str
    kind: str
    #: of numbers: the last bucket of each bin but the last
    bounds: tuple[int, ...] = ()
    #: of numbers: the first and the last bucket that the reference has
    least: int = 0
    most: int = 0
    categories: tuple[str, ...] = ()
    tally: Tally = field(default_factory=Tally)

    @property
    def is_prediction(self) -> bool:
        """Whether it is of an output."""
        return not self.key.startswith("input ")

    @property
    def is_open(self) -> bool:
        """Whether it has more texts than are counted: which of them are is chance, so that nothing can be compared."""
        return self.kind == TEXTS and self.tally.outside > 0

    def count(self, document: Mapping[str, Any] | None) -> Tally:
        """Return what a document of counts has of it, in its bins."""
        if document is None:
            return Tally()
        if self.kind == NUMBERS:
            return self._numbers(document)
        texts, others = _texts(document)
        bins = tuple(int(texts.get(each, 0)) for each in self.categories)
        numbers = int(document.get("count", 0)) if "strings" not in document else 0
        outside = sum(texts.values()) - sum(bins) + others
        return Tally(bins=(*bins, outside), outside=outside, other_kind=numbers)

    def _numbers(self, document: Mapping[str, Any]) -> Tally:
        if "strings" in document:
            return Tally(other_kind=int(document.get("count", 0)))
        bins, outside = [0] * (len(self.bounds) + 1), 0
        for text, number in (document.get("buckets") or {}).items():
            bucket = int(text)
            bins[bisect_left(self.bounds, bucket)] += number
            outside += 0 if self.least <= bucket <= self.most else number
        return Tally(bins=tuple(bins), missing=int(document.get("missing", 0)), outside=outside)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What freezing counted of a version's inputs and predictions."""

    rows: int
    features: tuple[Feature, ...]
    #: rows whose label was known, and those of them that were answered right
    labelled: int = 0
    right: int = 0
    #: of an answer that is a number: the mean of its absolute error, and the standard deviation
    error: float | None = None
    deviation: float = 0.0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Make the bins of ``outputs/sketches.json``, or of what a server counted."""
        quality = document.get("quality") or {}
        features = tuple(_feature(key, each) for key, each in _entries(document).items() if each.get("count"))
        known = {name: quality[name] for name in ("labelled", "right", "error", "deviation") if name in quality}
        return cls(rows=int(document.get("rows", 0)), features=features, **known)

    def count(self, document: Mapping[str, Any]) -> dict[str, Tally]:
        """Return what a server's document has of each feature, by its key."""
        entries = _entries(document)
        return {feature.key: feature.count(entries.get(feature.key)) for feature in self.features}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        features = [{**asdict(each), "tally": each.tally.to_list()} for each in self.features]
        return {**asdict(self), "features": features}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        features = tuple(
            Feature(
                **{
                    **each,
                    "bounds": tuple(each["bounds"]),
                    "categories": tuple(each["categories"]),
                    "tally": Tally.from_list(each["tally"]),
                }
            )
            for each in data["features"]
        )
        return cls(**{**data, "features": features})


def _entries(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the features of a document by their keys: ``input x[3]``, ``class scores``."""
    found = {}
    for side, word in _SIDES.items():
        for each in document.get(side) or ():
            position = each.get("position") or []
            place = f"[{','.join(map(str, position))}]" if position else ""
            found[f"{word} {each['name']}{place}"] = each
    return found


def _texts(document: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Return how often each text was counted, and how often others were."""
    texts = dict(document.get("strings") or {})
    if "others" in document:
        return texts, int(document["others"])
    return texts, texts.pop("", 0) if len(texts) >= _MANY_TEXTS else 0


def _feature(key: str, document: Mapping[str, Any]) -> Feature:
    if "strings" in document:
        kind = CLASSES if key.startswith("class ") else TEXTS
        feature = Feature(key=key, kind=kind, categories=tuple(sorted(_texts(document)[0])))
    else:
        buckets = sorted((int(text), int(number)) for text, number in (document.get("buckets") or {}).items())
        least, most = (buckets[0][0], buckets[-1][0]) if buckets else (0, 0)
        feature = Feature(key=key, kind=NUMBERS, bounds=_bounds(buckets), least=least, most=most)
    return Feature(**{**vars(feature), "tally": feature.count(document)})


def _bounds(buckets: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the last bucket of each bin but the last; a bin ends where it has a tenth of all rows or more."""
    total, inside = sum(number for _, number in buckets), 0
    bounds = []
    for bucket, number in buckets[:-1]:
        inside += number
        if inside * BINS >= total:
            bounds.append(bucket)
            inside = 0
    return tuple(bounds)


def _at(values: Sequence[int], at: int) -> int:
    return values[at] if at < len(values) else 0
