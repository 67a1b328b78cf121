"""The pages of models and versions, of what differs between them, and of where they came from."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from modelway.lineage.graph.roots import check_digest
from modelway.ui.page import page
from modelway.ui.readable import LISTED, ReadableLineage
from modelway.ui.routes.given import PageNumber, parsed, time_of

#: versions that the list of all models shows of each
NEWEST = 5


def add_model_pages(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the pages to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/models")

    @app.get("/models")
    def models(request: Request, readable: Lineage) -> Response:
        shown = [(model, readable.versions(model.name, listed=NEWEST)) for model in readable.models]
        return page(request, "models.html", models=shown)

    @app.get("/serving")
    def serving(request: Request, readable: Lineage, at: str = "") -> Response:
        found = readable.serving(at=time_of(at))
        marks = readable.verifications((each.model, each.version) for each in found)
        return page(request, "serving.html", found=found, at=at, marks=marks)

    @app.get("/who-has")
    def find_by_digest(request: Request, readable: Lineage, content: str = "") -> Response:
        digest = parsed(check_digest, content) if content else ""
        found = readable.find_by_digest(digest) if digest else []
        marks = readable.verifications((each.name, each.number) for each in found if each.number is not None)
        return page(request, "who_has.html", found=found, digest=digest, marks=marks)

    @app.get("/models/{model:path}/was")
    def was(request: Request, readable: Lineage, model: str, wanted: str = "latest", at: str = "") -> Response:
        number = readable.number_at(model, wanted, time_of(at))
        place = f"{request.scope['root_path']}/models/{quote(model, safe='')}/versions/{number}"
        return RedirectResponse(place, status_code=303)

    @app.get("/models/{model:path}/compare")
    def compare(request: Request, readable: Lineage, model: str, a: str = "", b: str = "latest") -> Response:
        known, number = readable.versions(model), readable.version(model, b or "latest").summary.number
        # The form was sent without a choice, or the page was called by hand: the one before.
        first = a or str(readable.before(model, number) or number)
        found = readable.difference(model, first, str(number))
        marks = readable.verifications((each.model, each.number) for each in (found.a, found.b))
        return page(request, "compare.html", found=found, model=readable.model(model), versions=known, marks=marks)

    @app.get("/models/{model:path}/versions/{version}/lineage")
    def graph(request: Request, readable: Lineage, model: str, version: str) -> Response:
        graphs = dict(zip(("up", "down"), readable.graphs(model, version), strict=True))
        number = readable.version(model, version).summary.number
        named = {node.id for each in graphs.values() for node in each.nodes if node.kind == "version"}
        places = [node.removeprefix("version:").rsplit("@", 1) for node in named]
        marks = readable.verifications((name, int(each)) for name, each in places)
        return page(request, "lineage.html", model=model, number=number, graphs=graphs, marks=marks)

    @app.get("/models/{model:path}/versions/{version}")
    def version(request: Request, readable: Lineage, model: str, version: str) -> Response:
        detail = readable.version(model, version)
        before, aliases = readable.before(model, detail.summary.number), readable.model(model).aliases
        return page(request, "version.html", detail=detail, before=before, aliases=aliases)

    # Last: a model's name may have slashes, so its route would match the paths above as well.
    @app.get("/models/{model:path}")
    def versions(request: Request, readable: Lineage, model: str, number: PageNumber = 1) -> Response:
        found = readable.model(model)
        last = -(-found.count // LISTED)
        number = min(number, last)
        shown = readable.versions(model, page=number)
        return page(request, "model.html", model=found, versions=shown, number=number, last=last, listed=LISTED)
