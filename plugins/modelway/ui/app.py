"""The pages "Models" and their JSON twins as one FastAPI application."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from modelway.errors import ChangedMeanwhile, ModelwayError, UnknownEndpoint, UnknownModel, UnknownRun, UnknownVersion
from modelway.lineage.store import Lineage, open_lineage
from modelway.ui.editing import Editing
from modelway.ui.page import page
from modelway.ui.readable import ReadableLineage
from modelway.ui.routes.airflow_links import add_airflow_links
from modelway.ui.routes.api import add_api
from modelway.ui.routes.comparisons import add_comparisons
from modelway.ui.routes.downloads import add_downloads
from modelway.ui.routes.edits import add_edits
from modelway.ui.routes.endpoints import add_endpoint_pages
from modelway.ui.routes.models import add_model_pages
from modelway.ui.static import add_static_files


class OneReading(APIRoute):
    """A route whose view reads the lineage over one connection, which is free again before the answer is sent."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add the route; of views that write, each read is by itself."""
        super().__init__(path, _at_once(endpoint) if options.get("methods") == ["GET"] else endpoint, **options)


def _at_once(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(endpoint)
    def view(**given: Any) -> Any:
        readable = given.get("readable")
        with readable.at_once() if isinstance(readable, ReadableLineage) else nullcontext():
            return endpoint(**given)

    return view


def create_app(
    *,
    store_url: Callable[[], str],
    readable_dags: Callable[..., frozenset[str]],
    editing: Editing | None = None,
    artifact_root: Callable[[], str] | None = None,
) -> FastAPI:
    """Return the application.

    :param store_url: returns the SQLAlchemy URL of the lineage database
    :param readable_dags: a FastAPI dependency that answers 401 when nobody is signed in, else returns the ids of the
        DAGs that the user may read; a version is shown to those who may read the DAG whose run made it, a model to
        those who may read one of its versions
    :param editing: how what people write is written; None: the pages are for reading alone
    :param artifact_root: returns where the files of versions are stored; None: nothing is downloaded
    """
    # No openapi.json and no docs: they would be outside the dependencies, open to everyone.
    refusals: dict[int | str, dict[str, Any]] = {422: {"description": "What is wrong, in one sentence: detail"}}
    app = FastAPI(title="modelway", openapi_url=None, dependencies=[Depends(readable_dags)], responses=refusals)
    app.router.route_class = OneReading
    opened: dict[str, Lineage] = {}

    def find() -> Lineage | None:
        url = store_url()
        if (found := opened.get(url)) is None and (found := open_lineage(url, read_only=True)):
            opened[url] = found
        return found if found and found.exists() else None

    # It waits for nothing, and so needs no thread: the view opens the lineage, in its own.
    async def readable(dags: Annotated[frozenset[str], Depends(readable_dags)]) -> ReadableLineage:
        return ReadableLineage(find, dags)

    # FastAPI awaits it.
    lineage = cast("Callable[..., ReadableLineage]", readable)

    # Airflow's api-server compresses as well, but not every server that mounts the pages.
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    add_static_files(app)
    add_endpoint_pages(app, lineage)
    add_airflow_links(app, lineage)
    # Before the models: a model's name may have slashes, so its path would match these as well.
    add_comparisons(app, lineage)
    add_model_pages(app, lineage)
    if artifact_root is not None:
        add_downloads(app, lineage, artifact_root)
    add_api(app, lineage)
    if editing is not None:
        add_edits(app, lineage, editing)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(ModelwayError, _refuse)
    return app


def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error with one sentence: as a page for a browser, as JSON for a program."""
    status, headers = 503, None
    if isinstance(error, HTTPException):
        status, sentence, headers = error.status_code, str(error.detail), error.headers
    elif isinstance(error, RequestValidationError):
        # Without what was sent: it may be no text that can be sent back.
        wrong = (f"{' '.join(map(str, each['loc'][1:])) or 'body'}: {each['msg']}" for each in error.errors())
        status, sentence = 422, "; ".join(wrong)
    else:
        sentence = str(error)
        if isinstance(error, UnknownEndpoint | UnknownModel | UnknownRun | UnknownVersion):
            status = 404
        elif isinstance(error, ChangedMeanwhile):
            status = 409
    route = getattr(request.scope.get("route"), "path", "")
    if route.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        said = {"detail": sentence, "error": type(error).__name__}
        return JSONResponse(said, status_code=status, headers=headers)
    return page(request, "message.html", status=status, headers=headers, sentence=sentence)
