"""The list of models as somebody searches and sorts it."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelway.lineage.records.version import ModelSummary

#: the orders that the list offers, the first by default
ORDERS = {"name": "name", "new": "newest model first", "versions": "most versions first"}


def matching(models: Sequence[ModelSummary], text: str) -> list[ModelSummary]:
    """Return the models that have every word of a text in their name, description, DAGs or aliases."""
    words = text.casefold().split()

    def text_of(model: ModelSummary) -> str:
        return " ".join((model.name, model.description, *model.dags, *model.aliases)).casefold()

    return [model for model in models if all(word in text_of(model) for word in words)]


def sorted_models(models: Sequence[ModelSummary], *, by: str) -> list[ModelSummary]:
    """Return the models in one of the orders; by name where there is no such order."""
    if by == "new":
        return sorted(models, key=lambda model: model.created_at, reverse=True)
    if by == "versions":
        return sorted(models, key=lambda model: (-model.count, model.name))
    return sorted(models, key=lambda model: model.name)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some models of a list, by the name after which they come: what is added or removed before them moves none."""

    shown: tuple[ModelSummary, ...]
    first: int
    """the place of the first in the list, from 1; 0 of an empty list"""
    earlier: str | None
    """the name after which the part before begins, empty at the list's begin; None: this is the first part"""
    later: str | None
    """the name after which the next part begins; None: this is the last one"""


def part_after(models: Sequence[ModelSummary], name: str | None, *, size: int) -> Part:
    """Return the models that come after a name; the list's begin where no model has the name any more."""
    start = next((place for place, model in enumerate(models, 1) if model.name == name), 0) if name else 0
    shown = tuple(models[start : start + size])
    return Part(
        shown=shown,
        first=start + 1 if shown else 0,
        earlier=None if not start else models[start - size - 1].name if start > size else "",
        later=shown[-1].name if start + size < len(models) else None,
    )
