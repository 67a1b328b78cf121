"""The pages of models and of versions, and of where they came from."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from modelway.lineage.graph.traversal import MOST_STEPS
from modelway.ui.drift import of_version
from modelway.ui.listing import WORDS, WantedModels, part_after, sorted_models, wanted_models
from modelway.ui.page import model_path, page
from modelway.ui.readable import LISTED, ReadableLineage
from modelway.ui.routes.given import Before, time_of

#: versions that the list of all models shows of each
NEWEST = 5
#: models of a page of that list
MODELS = 20
#: aliases that its filter offers
ALIASES = 500
#: things of a tree of lineage; the graph loads the others when they are expanded
IN_TREE = 150
#: how many versions the chart of a metric has at most
CHARTED = 200


def add_model_pages(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the pages to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/models")

    @app.get("/models")
    def models(
        request: Request, readable: Lineage, wanted: WantedModels, sort: str = "name", after: str | None = None
    ) -> Response:
        found = sorted_models(wanted_models(readable, wanted), by=sort)
        part = part_after(found, after, size=MODELS)
        names = [model.name for model in part.shown]
        places, newest = readable.serving_by_model(names), readable.newest(names, each=NEWEST)
        health = readable.health(names, places)
        shown = [(model, newest[model.name], places.get(model.name, ()), health[model.name]) for model in part.shown]
        known = {"known": len(readable.models), "count": len(found)}
        offered = sorted({alias for model in readable.models for alias in model.aliases})[:ALIASES]
        aliases = sorted({*offered, wanted.alias} - {""})
        return page(
            request,
            "models.html",
            models=shown,
            part=part,
            sizes=known,
            wanted=wanted,
            sort=sort,
            aliases=aliases,
            words=WORDS,
        )

    @app.get("/models/{model:path}/was")
    def was(request: Request, readable: Lineage, model: str, wanted: str = "latest", at: str = "") -> Response:
        number = readable.number_at(model, wanted, time_of(at))
        return RedirectResponse(f"{model_path(request, model)}/versions/{number}", status_code=303)

    @app.get("/models/{model:path}/versions/{version}/lineage")
    def graph(request: Request, readable: Lineage, model: str, version: str) -> Response:
        found = readable.graphs(model, version, steps=MOST_STEPS, most=IN_TREE)
        graphs, number = dict(zip(("up", "down"), found, strict=True)), readable.number(model, version)
        named = {node.id for each in graphs.values() for node in each.nodes if node.kind == "version"}
        places = [node.removeprefix("version:").rsplit("@", 1) for node in named]
        marks = readable.verifications((name, int(each)) for name, each in places)
        return page(request, "lineage.html", model=model, number=number, graphs=graphs, marks=marks)

    @app.get("/models/{model:path}/versions/{version}")
    def version(request: Request, readable: Lineage, model: str, version: str) -> Response:
        detail = readable.version(model, version)
        number, aliases = detail.summary.number, readable.model(model).aliases
        requests = of_version(readable.retrainings(model), number)
        before = readable.before(model, number)
        return page(request, "version.html", detail=detail, before=before, aliases=aliases, requests=requests)

    @app.get("/models/{model:path}/drift")
    def drift(request: Request, readable: Lineage, model: str) -> Response:
        return page(request, "drift.html", model=readable.model(model), found=readable.monitored(model))

    # Last: a model's name may have slashes, so its route would match the paths above as well.
    @app.get("/models/{model:path}")
    def versions(request: Request, readable: Lineage, model: str, metric: str = "", before: Before = None) -> Response:
        found = readable.model(model)
        # The list is the first of those that are charted: one read of both.
        charted = readable.versions(model, listed=CHARTED, before=before)
        places = readable.serving_by_model([model]).get(model, ())
        return page(
            request,
            "model.html",
            model=found,
            versions=charted[:LISTED],
            charted=charted,
            before=before,
            listed=LISTED,
            metric=metric,
            places=places,
            history=readable.alias_history(model),
        )
