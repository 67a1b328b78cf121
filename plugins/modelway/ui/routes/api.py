"""The same data as JSON, for programs."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse

from modelway.lineage.graph.roots import check_digest
from modelway.lineage.records.values import plain
from modelway.ui.readable import LISTED, ReadableLineage
from modelway.ui.routes.given import Before, parsed, time_of


def add_api(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the paths to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/openapi.json", include_in_schema=False)
    def described() -> JSONResponse:
        paths = {path: found for path, found in app.openapi()["paths"].items() if path.startswith("/api/")}
        return JSONResponse({**app.openapi(), "paths": paths})

    _add_models(app, lineage)

    @app.get("/api/models")
    def models(readable: Lineage) -> JSONResponse:
        """The models that you may read, by name."""
        return JSONResponse({"models": plain(readable.models)})

    @app.get("/api/serving")
    def serving(readable: Lineage, at: str = "") -> JSONResponse:
        """Which versions serve where, now or at a time."""
        return JSONResponse({"serving": plain(readable.serving(at=time_of(at)))})

    @app.get("/api/who-has")
    def find_by_digest(readable: Lineage, content: str) -> JSONResponse:
        """Which versions, runs, data sets, images and assets have a content, sha256:<hex>."""
        digest = parsed(check_digest, content)
        return JSONResponse({"digest": digest, "holders": plain(readable.find_by_digest(digest))})

    @app.get("/api/account")
    def account(readable: Lineage, wanted: str, model: str | None = None) -> JSONResponse:
        """How a run went, or the last one of a model: its failed attempts, and the version that it made."""
        return JSONResponse(plain(readable.account_of(wanted, model=model)))


def _add_models(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/models/{model:path}/was")
    def was(readable: Lineage, model: str, at: str, wanted: str = "latest") -> JSONResponse:
        """The version that an alias pointed at, or that was the latest, at a time."""
        return JSONResponse({"model": model, "version": readable.number_at(model, wanted, time_of(at))})

    @app.get("/api/models/{model:path}/compare")
    def compare(readable: Lineage, model: str, a: str, b: str) -> JSONResponse:
        """How two versions differ."""
        return JSONResponse(plain(readable.difference(model, a, b)))

    @app.get("/api/models/{model:path}/versions/{version}/lineage")
    def graph(readable: Lineage, model: str, version: str) -> JSONResponse:
        """What a version came out of, and what came out of it."""
        up, down = readable.graphs(model, version)
        return JSONResponse({"upstream": plain(up), "downstream": plain(down)})

    @app.get("/api/models/{model:path}/versions/{version}")
    def version(readable: Lineage, model: str, version: str) -> JSONResponse:
        """The whole record of a version, by number, alias or latest."""
        return JSONResponse(plain(readable.version(model, version)))

    @app.get("/api/models/{model:path}")
    def versions(readable: Lineage, model: str, before: Before = None) -> JSONResponse:
        """50 versions of a model, newest first: the newest, or those before a number.

        ``before`` of the answer is the number to ask with for those after them; null: there are no more.
        """
        found = readable.versions(model, before=before)
        further = found[-1].number if len(found) == LISTED else None
        return JSONResponse({"model": model, "versions": plain(found), "before": further})
