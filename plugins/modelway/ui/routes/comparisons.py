"""The pages that set versions side by side, and those over all models: what serves, and who has a file."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from modelway.lineage.graph.roots import check_digest
from modelway.ui.page import model_path, page
from modelway.ui.readable import ReadableLineage
from modelway.ui.routes.given import Before, parsed, time_of
from modelway.ui.side_by_side import columns, version_lines

#: how many versions are set side by side at most
COMPARED = 5
#: how many are drawn as lines at most
DRAWN = 200
#: endpoints of a page of what serves
ENDPOINTS = 100


def add_comparisons(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the pages to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/serving")
    def serving(request: Request, readable: Lineage, at: str = "", after: str = "") -> Response:
        # One endpoint more than is shown says whether there are more.
        found = readable.serving(at=time_of(at), after=after, most=ENDPOINTS + 1)
        names = list(dict.fromkeys(each.endpoint for each in found))
        further = names[ENDPOINTS - 1] if len(names) > ENDPOINTS else None
        found = [each for each in found if each.endpoint in names[:ENDPOINTS]]
        marks = readable.verifications((each.model, each.version) for each in found)
        return page(request, "serving.html", found=found, at=at, after=after, further=further, marks=marks)

    @app.get("/who-has")
    def find_by_digest(request: Request, readable: Lineage, content: str = "") -> Response:
        digest = parsed(check_digest, content) if content else ""
        found = readable.find_by_digest(digest) if digest else []
        marks = readable.verifications((each.name, each.number) for each in found if each.number is not None)
        return page(request, "who_has.html", found=found, digest=digest, marks=marks)

    @app.get("/models/{model:path}/compare")
    def compare(request: Request, readable: Lineage, model: str, a: str = "", b: str = "latest") -> Response:
        known, number = readable.versions(model), readable.version(model, b or "latest").summary.number
        # The form was sent without a choice, or the page was called by hand: the one before.
        first = a or str(readable.before(model, number) or number)
        found = readable.difference(model, first, str(number))
        marks = readable.verifications((each.model, each.number) for each in (found.a, found.b))
        return page(request, "compare.html", found=found, model=readable.model(model), versions=known, marks=marks)

    @app.get("/models/{model:path}/side-by-side")
    def side_by_side(
        request: Request, readable: Lineage, model: str, v: Annotated[list[str] | None, Query()] = None
    ) -> Response:
        wanted = v or [str(each.number) for each in readable.versions(model, listed=COMPARED)]
        numbers = sorted({readable.number(model, each) for each in wanted[: COMPARED + 1]})
        if not 2 <= len(numbers) <= COMPARED:
            raise HTTPException(400, f"Choose 2 to {COMPARED} versions to see side by side; {len(numbers)} were named.")
        details = [readable.version(model, str(number)) for number in numbers]
        at = model_path(request, model)
        lines, axes = version_lines([(each.summary, each.params) for each in details], at=at)
        shown, found = readable.model(model), columns(details)
        return page(request, "side_by_side.html", model=shown, found=found, details=details, lines=lines, axes=axes)

    @app.get("/models/{model:path}/parallel")
    def parallel(request: Request, readable: Lineage, model: str, before: Before = None) -> Response:
        """The newest versions, or those before a number, as lines across what differs."""
        found = readable.versions(model, listed=DRAWN, before=before)
        params = readable.params(model, [each.number for each in found])
        lines, axes = version_lines(
            [(each, params.get(each.number, {})) for each in found], at=model_path(request, model)
        )
        return page(request, "parallel.html", model=readable.model(model), found=found, lines=lines, axes=axes)
