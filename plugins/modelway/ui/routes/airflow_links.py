"""Where the tabs on Airflow's own pages lead: from a DAG to its model, from a run or a task to what it made."""

from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from modelway.ui.page import model_path, page
from modelway.ui.readable import ReadableLineage

#: what a run leads to: the version that it made or moves, the endpoint that it moves
Made = Literal["", "version", "endpoint"]


def add_airflow_links(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the pages to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/of-dag")
    def of_dag(request: Request, readable: Lineage, dag: str) -> Response:
        models = [model.name for model in readable.models if dag in model.dags]
        if len(models) == 1:
            return RedirectResponse(model_path(request, models[0]))
        if models:
            return RedirectResponse(f"{request.scope['root_path']}/models?q={quote(dag)}")
        return page(request, "run.html", dag=dag, run=None, accounts=())

    @app.get("/of-run")
    def of_run(request: Request, readable: Lineage, dag: str, run: str, to: Made = "") -> Response:
        place = readable.made_by_run(dag, run, what=to) if to else None
        if isinstance(place, str):
            return RedirectResponse(f"{request.scope['root_path']}/endpoints/{quote(place, safe='')}")
        if place is not None:
            return RedirectResponse(f"{model_path(request, place[0])}/versions/{place[1]}")
        # There is none yet, or there are several.
        return page(request, "run.html", dag=dag, run=run, accounts=readable.accounts(dag, run))
