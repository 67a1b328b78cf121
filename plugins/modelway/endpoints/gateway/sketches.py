"""What the servers of predictors counted of their inputs and outputs: out of their pages ``/v2/models/M/sketches``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def sketches_path(model: str) -> str:
    """Return the path at which a server shows it, by the name of the model in its URLs."""
    return f"/v2/models/{model}/sketches"


def sketches_of(pages: Mapping[str, Iterable[str]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the documents of each predictor's servers; a page that is none is left out."""
    return {name: [each for each in map(_document, texts) if each is not None] for name, texts in pages.items()}


def _document(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and "since" in found and "inputs" in found else None
