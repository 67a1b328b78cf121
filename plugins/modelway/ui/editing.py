"""What the pages write, and who may: all else that acts goes through Airflow's own API, from the browser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


@dataclass(frozen=True, kw_only=True)
class Editor:
    """Who is signed in, by the name that records show, and the ids of the DAGs that they may edit."""

    name: str
    dags: frozenset[str]

    def check(self, dag: str) -> None:
        """Answer 403 where the user may not edit a DAG."""
        if dag not in self.dags:
            raise HTTPException(403, f"Airflow does not let you do this: it needs the right to edit the DAG {dag}.")


@dataclass(frozen=True, kw_only=True)
class Editing:
    """How the pages write: ``editor`` is a FastAPI dependency, ``lineage`` opens the lineage for writing."""

    editor: Callable[..., Editor]
    lineage: "Callable[[], Lineage]"

    @contextmanager
    def writing(self) -> "Iterator[Lineage]":
        """Open the lineage, with the exporters that are configured now, and leave no connection behind."""
        opened = self.lineage()
        try:
            yield opened
        finally:
            opened.engine.dispose()


def from_own_page(request: Request) -> None:
    """Refuse what another site's page may have sent.

    A browser sends JSON to another site only after that has agreed, which Airflow does not, and names its origin.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send JSON, as content-type application/json.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This was sent by a page of another site.")
