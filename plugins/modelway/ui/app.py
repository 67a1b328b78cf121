"""The pages "Models" and their JSON twins as one FastAPI application."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from modelway.errors import ModelwayError, UnknownModel, UnknownVersion
from modelway.lineage.difference import difference
from modelway.lineage.difference_record import DiffRecord
from modelway.lineage.inquiry import Inquiry, open_inquiry
from modelway.lineage.opened import store_exists
from modelway.lineage.query_record import LineageGraph
from modelway.lineage.record import ModelSummary, VersionDetail, VersionSummary
from modelway.lineage.store import LineageStore, open_to_read
from modelway.lineage.values import plain
from modelway.ui.page import page

#: versions that a page of a model's list shows, and the list of all models of each
LISTED, NEWEST = 50, 5
#: no list is longer, and a database counts in 64 bits
_Page = Annotated[int, Query(alias="page", ge=1, le=1_000_000)]


def create_app(*, store_url: Callable[[], str], readable_dags: Callable[..., frozenset[str]]) -> FastAPI:
    """Return the application.

    :param store_url: gives the SQLAlchemy URL of the lineage database
    :param readable_dags: a FastAPI dependency that answers 401 when nobody is signed in, and else gives the ids of the
        DAGs that the user may read; a version is shown to those who may read the DAG whose run made it, a model to
        those who may read one of its versions
    """
    # No openapi.json and no docs: they would lie outside the dependencies, open to everyone.
    app = FastAPI(title="modelway", openapi_url=None, dependencies=[Depends(readable_dags)])
    stores: dict[str, tuple[LineageStore, Inquiry]] = {}

    def lineage(dags: Annotated[frozenset[str], Depends(readable_dags)]) -> ReadableLineage:
        url = store_url()
        if url not in stores and (made := open_to_read(url)) and (asked := open_inquiry(url)):
            stores[url] = made, asked
        store, inquiry = stores.get(url, (None, None)) if store_exists(url) else (None, None)
        return ReadableLineage(store, inquiry, dags)

    _add_pages(app, lineage)
    _add_api(app, lineage)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(ModelwayError, _refuse)
    return app


class ReadableLineage:
    """What one user may read of the lineage in one request; what is beyond that does not exist for them."""

    def __init__(self, store: LineageStore | None, inquiry: Inquiry | None, dags: frozenset[str]) -> None:
        """Show what runs of ``dags`` made; no store: nothing was registered yet."""
        self._store = store
        self._inquiry = inquiry
        self._dags = dags

    @cached_property
    def models(self) -> list[ModelSummary]:
        """The models with a readable version, by name."""
        return self._store.models(dags=self._dags) if self._store else []

    def model(self, name: str) -> ModelSummary:
        """Return one of the models.

        :raises UnknownModel: the user may read no version of it, or there is none
        """
        known = {model.name: model for model in self.models}
        if name not in known:
            raise UnknownModel(f"there is no model '{name}' that you may read", known=known, given=name)
        return known[name]

    def versions(self, model: str, *, page: int = 1, listed: int = LISTED) -> list[VersionSummary]:
        """Return a page of the readable versions of a model, newest first.

        :raises UnknownModel: there is none that the user may read
        """
        found = self.model(model)
        assert self._store is not None  # else there is no model
        return self._store.versions(model, limit=listed * page, dags=found.dags)[listed * (page - 1) :]

    def before(self, model: str, number: int) -> int | None:
        """Return the readable version before another one; None: there is none, or not among the newest."""
        store, dags = self._store, self.model(model).dags
        assert store is not None  # else there is no model
        try:
            return store.find(model, str(number - 1), dags=dags)
        except UnknownVersion:
            return next((each.number for each in self.versions(model) if each.number < number), None)

    def version(self, model: str, wanted: str) -> VersionDetail:
        """Return the record of a readable version given by number, ``v3``, alias or ``latest``.

        :raises UnknownModel: there is no such model that the user may read
        :raises UnknownVersion: the model has no such version that the user may read
        """
        store, dags = self._store, self.model(model).dags
        assert store is not None  # else there is no model
        found = store.version(model, store.find(model, wanted, dags=dags))
        # A run of another DAG can have taken the version: who may not read that DAG does not learn of its runs.
        events = tuple(event for event in found.events if event.detail.get("dag_id", found.run.dag_id) in self._dags)
        return replace(found, events=events)

    def difference(self, model: str, a: str, b: str) -> DiffRecord:
        """Return how two readable versions of a model differ; raises as ``version`` does."""
        return difference(self.version(model, a), self.version(model, b))

    def graphs(self, model: str, wanted: str) -> tuple[LineageGraph, LineageGraph]:
        """Return what is upstream and downstream of a readable version; raises as ``version`` does."""
        number, inquiry = self.version(model, wanted).summary.number, self._inquiry
        assert inquiry is not None  # else there is no version
        name = f"version:{model}@{number}"
        return inquiry.upstream(name, dags=self._dags), inquiry.downstream(name, dags=self._dags)


def _add_pages(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/models")

    @app.get("/models")
    def models(request: Request, readable: Lineage) -> Response:
        shown = [(model, readable.versions(model.name, listed=NEWEST)) for model in readable.models]
        return page(request, "models.html", models=shown)

    @app.get("/models/{model:path}/compare")
    def compare(request: Request, readable: Lineage, model: str, a: str = "", b: str = "latest") -> Response:
        known, number = readable.versions(model), readable.version(model, b or "latest").summary.number
        # The form was sent without a choice, or the page was called by hand: the one before.
        first = a or str(readable.before(model, number) or number)
        found = readable.difference(model, first, str(number))
        return page(request, "compare.html", found=found, model=readable.model(model), versions=known)

    @app.get("/models/{model:path}/versions/{version}/lineage")
    def graph(request: Request, readable: Lineage, model: str, version: str) -> Response:
        graphs = dict(zip(("up", "down"), readable.graphs(model, version), strict=True))
        number = readable.version(model, version).summary.number
        return page(request, "lineage.html", model=model, number=number, graphs=graphs)

    @app.get("/models/{model:path}/versions/{version}")
    def version(request: Request, readable: Lineage, model: str, version: str) -> Response:
        detail = readable.version(model, version)
        before, aliases = readable.before(model, detail.summary.number), readable.model(model).aliases
        return page(request, "version.html", detail=detail, before=before, aliases=aliases)

    # Last: a model's name may have slashes, so that it would take the paths above as well.
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
