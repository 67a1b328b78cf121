"""The list of models as somebody searches and sorts it."""

from collections.abc import Sequence

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
