"""The pages of endpoints: who serves, how the traffic moved, and the actions on it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from modelway.ui.answer import JsonAnswer
from modelway.ui.page import page
from modelway.ui.readable import ReadableLineage


def add_endpoint_pages(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the pages to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/endpoints/{endpoint:path}")
    def one(request: Request, readable: Lineage, endpoint: str) -> Response:
        view = readable.endpoint(endpoint)
        return page(request, "endpoint.html", view=view, actions=readable.actions(view))

    @app.get("/api/endpoints/{endpoint:path}")
    def one_as_json(readable: Lineage, endpoint: str) -> JsonAnswer:
        """Who serves at an endpoint, which versions took over last, how its weights changed, its rollouts and steps."""
        view = readable.endpoint(endpoint)
        current, before = readable.served(view)
        return JsonAnswer(
            {
                "endpoint": view.name,
                "served": {"current": current, "before": before},
                "serving": view.shares,
                "changes": view.changes,
                "rollouts": view.rollouts,
                "steps": view.steps,
            }
        )
