"""The pages "Models" and their JSON twins as one FastAPI application."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from modelway.errors import ModelwayError, UnknownModel, UnknownVersion
from modelway.lineage.graph.roots import check_digest
from modelway.lineage.records.times import parse_time
from modelway.lineage.records.values import plain
from modelway.lineage.store import Lineage, open_lineage
from modelway.ui.page import page
from modelway.ui.readable import LISTED, ReadableLineage

#: versions that the list of all models shows of each
NEWEST = 5
#: no list is longer, and a database counts in 64 bits
_Page = Annotated[int, Query(alias="page", ge=1, le=1_000_000)]

_Parsed = TypeVar("_Parsed")


def create_app(*, store_url: Callable[[], str], readable_dags: Callable[..., frozenset[str]]) -> FastAPI:
    """Return the application.

    :param store_url: returns the SQLAlchemy URL of the lineage database
    :param readable_dags: a FastAPI dependency that answers 401 when nobody is signed in, else returns the ids of the
        DAGs that the user may read; a version is shown to those who may read the DAG whose run made it, a model to
        those who may read one of its versions
    """
    # No openapi.json and no docs: they would be outside the dependencies, open to everyone.
    app = FastAPI(title="modelway", openapi_url=None, dependencies=[Depends(readable_dags)])
    opened: dict[str, Lineage] = {}

    def lineage(dags: Annotated[frozenset[str], Depends(readable_dags)]) -> ReadableLineage:
        url = store_url()
        if (found := opened.get(url)) is None and (found := open_lineage(url, read_only=True)):
            opened[url] = found
        return ReadableLineage(found if found and found.exists() else None, dags)

    _add_pages(app, lineage)
    _add_api(app, lineage)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(ModelwayError, _refuse)
    return app


def _add_pages(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
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
        found = readable.serving(at=_time(at))
        marks = readable.verifications((each.model, each.version) for each in found)
        return page(request, "serving.html", found=found, at=at, marks=marks)

    @app.get("/who-has")
    def find_by_digest(request: Request, readable: Lineage, content: str = "") -> Response:
        digest = _parsed(check_digest, content) if content else ""
        found = readable.find_by_digest(digest) if digest else []
        marks = readable.verifications((each.name, each.number) for each in found if each.number is not None)
        return page(request, "who_has.html", found=found, digest=digest, marks=marks)

    @app.get("/models/{model:path}/was")
    def was(request: Request, readable: Lineage, model: str, wanted: str = "latest", at: str = "") -> Response:
        number = readable.number_at(model, wanted, _time(at))
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
    def versions(request: Request, readable: Lineage, model: str, number: _Page = 1) -> Response:
        found = readable.model(model)
        last = -(-found.count // LISTED)
        number = min(number, last)
        shown = readable.versions(model, page=number)
        return page(request, "model.html", model=found, versions=shown, number=number, last=last, listed=LISTED)


def _add_api(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/models")
    def models(readable: Lineage) -> JSONResponse:
        return JSONResponse({"models": plain(readable.models)})

    @app.get("/api/serving")
    def serving(readable: Lineage, at: str = "") -> JSONResponse:
        return JSONResponse({"serving": plain(readable.serving(at=_time(at)))})

    @app.get("/api/who-has")
    def find_by_digest(readable: Lineage, content: str) -> JSONResponse:
        digest = _parsed(check_digest, content)
        return JSONResponse({"digest": digest, "holders": plain(readable.find_by_digest(digest))})

    @app.get("/api/models/{model:path}/was")
    def was(readable: Lineage, model: str, at: str, wanted: str = "latest") -> JSONResponse:
        return JSONResponse({"model": model, "version": readable.number_at(model, wanted, _time(at))})

    @app.get("/api/models/{model:path}/compare")
    def compare(readable: Lineage, model: str, a: str, b: str) -> JSONResponse:
        return JSONResponse(plain(readable.difference(model, a, b)))

    @app.get("/api/models/{model:path}/versions/{version}/lineage")
    def graph(readable: Lineage, model: str, version: str) -> JSONResponse:
        up, down = readable.graphs(model, version)
        return JSONResponse({"upstream": plain(up), "downstream": plain(down)})

    @app.get("/api/models/{model:path}/versions/{version}")
    def version(readable: Lineage, model: str, version: str) -> JSONResponse:
        return JSONResponse(plain(readable.version(model, version)))

    @app.get("/api/models/{model:path}")
    def versions(readable: Lineage, model: str, number: _Page = 1) -> JSONResponse:
        return JSONResponse({"model": model, "versions": plain(readable.versions(model, page=number))})


def _time(text: str) -> datetime | None:
    """Parse a time; None means now."""
    return _parsed(parse_time, text) if text.strip() else None


def _parsed(parse: Callable[[str], _Parsed], text: str) -> _Parsed:
    """Return what a user wrote, parsed, or answer 400."""
    try:
        return parse(text.strip())
    except ModelwayError as error:
        raise HTTPException(400, str(error)) from None


def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error with one sentence: as a page for a browser, as JSON for a program."""
    status, headers = 503, None
    if isinstance(error, HTTPException):
        status, sentence, headers = error.status_code, str(error.detail), error.headers
    else:
        sentence = str(error)
        if isinstance(error, UnknownModel | UnknownVersion):
            status = 404
    route = getattr(request.scope.get("route"), "path", "")
    if route.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": sentence}, status_code=status, headers=headers)
    return page(request, "message.html", status=status, headers=headers, sentence=sentence)
