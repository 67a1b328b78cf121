"""The same data as JSON, for programs."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse

from modelway.lineage.graph.roots import check_digest
from modelway.lineage.records.values import plain
from modelway.ui.readable import ReadableLineage
from modelway.ui.routes.given import PageNumber, parsed, time_of


def add_api(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the paths to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/models")
    def models(readable: Lineage) -> JSONResponse:
        return JSONResponse({"models": plain(readable.models)})

    @app.get("/api/serving")
    def serving(readable: Lineage, at: str = "") -> JSONResponse:
        return JSONResponse({"serving": plain(readable.serving(at=time_of(at)))})

    @app.get("/api/who-has")
    def find_by_digest(readable: Lineage, content: str) -> JSONResponse:
        digest = parsed(check_digest, content)
        return JSONResponse({"digest": digest, "holders": plain(readable.find_by_digest(digest))})

    @app.get("/api/models/{model:path}/was")
    def was(readable: Lineage, model: str, at: str, wanted: str = "latest") -> JSONResponse:
        return JSONResponse({"model": model, "version": readable.number_at(model, wanted, time_of(at))})

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
    def versions(readable: Lineage, model: str, number: PageNumber = 1) -> JSONResponse:
        return JSONResponse({"model": model, "versions": plain(readable.versions(model, page=number))})
