"""The list of models as somebody searches and sorts it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from urllib.parse import urlencode

from fastapi import Depends, Query

from modelway.lineage.records.version import ModelSummary
from modelway.ui.health import Word
from modelway.ui.readable import ReadableLineage

#: the orders that the list offers, the first by default
ORDERS = {"name": "name", "new": "newest model first", "versions": "most versions first"}

#: the words of health that the list offers
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which models somebody wants to see; what is empty narrows nothing."""

    q: str = ""
    alias: str = ""
    serves: Literal["", "yes", "no"] = ""
    health: Literal["", Word] = ""

    @property
    def query(self) -> str:
        """The parameters of a link that keeps it, those alone that narrow."""
        return self._query_without("")

    @property
    def filters(self) -> list[tuple[str, str]]:
        """Each part that narrows: what it says, and the parameters of a link without it."""
        texts = {
            "q": f"the words “{self.q}”",
            "alias": f"the alias “{self.alias}”",
            "serves": "serves" if self.serves == "yes" else "does not serve",
            "health": f"health “{self.health}”",
        }
        return [(text, self._query_without(name)) for name, text in texts.items() if vars(self)[name]]

    def _query_without(self, name: str) -> str:
        return urlencode({each: value for each, value in vars(self).items() if value and each != name})


# It waits for nothing, and so needs no thread.
async def _wanted(
    q: str = "",
    alias: Annotated[str, Query(max_length=200)] = "",
    serves: Literal["", "yes", "no"] = "",
    health: Literal["", Word] = "",
) -> Wanted:
    return Wanted(q=q, alias=alias, serves=serves, health=health)


#: what a request wants, by its parameters
WantedModels = Annotated[Wanted, Depends(_wanted)]


def wanted_models(readable: ReadableLineage, wanted: Wanted) -> list[ModelSummary]:
    """Return the models that somebody wants to see, by name; what serves is read only where that is asked for."""
    found = matching(readable.models, wanted.q)
    if wanted.alias:
        found = [model for model in found if wanted.alias in model.aliases]
    if not found or not (wanted.serves or wanted.health):
        return found
    if wanted.serves:
        serving = {name for name, shares in readable.places.items() if any(each.stopped_at is None for each in shares)}
        found = [model for model in found if (model.name in serving) == (wanted.serves == "yes")]
    if wanted.health:
        health = readable.health([model.name for model in found], readable.places)
        found = [model for model in found if any(each.word == wanted.health for each in health[model.name])]
    return found


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
