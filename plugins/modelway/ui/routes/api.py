"""The same data as JSON, for programs."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query
from fastapi.responses import Response

from modelway.lineage.graph.roots import check_digest
from modelway.lineage.graph.traversal import MOST_NODES, MOST_STEPS
from modelway.ui.answer import JsonAnswer, listed_models, listed_versions
from modelway.ui.listing import WantedModels, wanted_models
from modelway.ui.readable import LISTED, ReadableLineage
from modelway.ui.routes.given import Before, parsed, time_of

#: neighbours of a thing in the lineage that one answer has, and how many of them can be passed over
MOST_NEAR, MOST_SKIPPED = 50, 100_000
Direction = Literal["up", "down"]
Steps = Annotated[int, Query(ge=1, le=MOST_STEPS)]
Most = Annotated[int, Query(ge=1, le=MOST_NODES)]
Skip = Annotated[int, Query(ge=0, le=MOST_SKIPPED)]


def add_api(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    """Add the paths to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/openapi.json", include_in_schema=False)
    def described() -> JsonAnswer:
        paths = {path: found for path, found in app.openapi()["paths"].items() if path.startswith("/api/")}
        return JsonAnswer({**app.openapi(), "paths": paths})

    _add_models(app, lineage)

    @app.get("/api/models", response_class=JsonAnswer)
    def models(readable: Lineage, wanted: WantedModels) -> Response:
        """The models that you may read, by name; only those that fit each filter that is given."""
        return listed_models(wanted_models(readable, wanted))

    @app.get("/api/health")
    def health(readable: Lineage, wanted: WantedModels) -> JsonAnswer:
        """How models are where they serve, one word with its reason, by what is recorded; the filters of /api/models.

        No endpoint is called: ``seen`` is when one answered a check of the monitor last.
        """
        names = [model.name for model in wanted_models(readable, wanted)]
        found = readable.health(names, readable.places)
        return JsonAnswer({"health": [each for name in names for each in found[name]]})

    @app.get("/api/serving")
    def serving(readable: Lineage, at: str = "") -> JsonAnswer:
        """Which versions serve where, now or at a time."""
        return JsonAnswer({"serving": readable.serving(at=time_of(at))})

    @app.get("/api/who-has")
    def find_by_digest(readable: Lineage, content: str) -> JsonAnswer:
        """Which versions, runs, data sets, images and assets have a content, sha256:<hex>."""
        digest = parsed(check_digest, content)
        return JsonAnswer({"digest": digest, "holders": readable.find_by_digest(digest)})

    @app.get("/api/account")
    def account(readable: Lineage, wanted: str, model: str | None = None) -> JsonAnswer:
        """How a run went, or the last one of a model: its failed attempts, and the version that it made."""
        return JsonAnswer(readable.account_of(wanted, model=model))


def _add_models(app: FastAPI, lineage: Callable[..., ReadableLineage]) -> None:
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/models/{model:path}/was")
    def was(readable: Lineage, model: str, at: str, wanted: str = "latest") -> JsonAnswer:
        """The version that an alias pointed at, or that was the latest, at a time."""
        return JsonAnswer({"model": model, "version": readable.number_at(model, wanted, time_of(at))})

    @app.get("/api/models/{model:path}/drift")
    def drift(readable: Lineage, model: str) -> JsonAnswer:
        """What the monitor found of a model at its newest checks, and which retrainings it requested."""
        found = readable.monitored(model)
        return JsonAnswer({"model": model, "checks": found.checks, "requests": found.requests})

    @app.get("/api/models/{model:path}/compare")
    def compare(readable: Lineage, model: str, a: str, b: str) -> JsonAnswer:
        """How two versions differ."""
        return JsonAnswer(readable.difference(model, a, b))

    @app.get("/api/models/{model:path}/versions/{version}/lineage")
    def graph(
        readable: Lineage, model: str, version: str, steps: Steps = MOST_STEPS, most: Most = MOST_NODES
    ) -> JsonAnswer:
        """What a version came out of, and what came out of it: so many steps and things in each direction at most."""
        up, down = readable.graphs(model, version, steps=steps, most=most)
        return JsonAnswer({"upstream": up, "downstream": down})

    @app.get("/api/lineage")
    def neighbours(
        readable: Lineage, node: str, direction: Direction, skip: Skip = 0, most: Most = MOST_NEAR
    ) -> JsonAnswer:
        """What is next to something in the lineage, by the id that it has in a graph: the newest first, by parts."""
        return JsonAnswer(readable.neighbours(node, direction=direction, skip=skip, most=most))

    @app.get("/api/models/{model:path}/versions/{version}")
    def version(readable: Lineage, model: str, version: str) -> JsonAnswer:
        """The whole record of a version, by number, alias or latest."""
        return JsonAnswer(readable.version(model, version))

    @app.get("/api/models/{model:path}", response_class=JsonAnswer)
    def versions(readable: Lineage, model: str, before: Before = None) -> Response:
        """50 versions of a model, newest first: the newest, or those before a number.

        ``before`` of the answer is the number to send for those after them; null: there are no more.
        """
        found = readable.versions(model, before=before)
        further = found[-1].number if len(found) == LISTED else None
        return listed_versions(model, found, before=further)
