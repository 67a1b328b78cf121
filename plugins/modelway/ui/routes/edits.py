"""What the pages write: a person's act on a running rollout, and the description and tags of a version."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException

from modelway.errors import ChangedMeanwhile, ModelwayError
from modelway.lineage.records.note import LONGEST, checked_note
from modelway.lineage.records.steering import Steering
from modelway.lineage.records.values import plain
from modelway.ui.editing import Editing, Editor, from_own_page
from modelway.ui.readable import ReadableLineage

_Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Wish(BaseModel):
    """An act on the rollout of a run, in the step that its sender saw."""

    model_config = ConfigDict(extra="forbid")
    run: str
    step: int
    act: Literal["hold", "continue", "promote", "weight"]
    reason: _Reason
    weight: Annotated[int, Field(ge=1, le=99)] | None = None


class Note(BaseModel):
    """A version's description and tags, and when the ones were written that their writer saw."""

    model_config = ConfigDict(extra="forbid")
    description: Annotated[str, Field(max_length=LONGEST * 2)]
    tags: Annotated[list[str], Field(max_length=1_000)]
    since: datetime | None = None


def add_edits(app: FastAPI, lineage: Callable[..., ReadableLineage], editing: Editing) -> None:
    """Add the paths to the application.

    :param lineage: a FastAPI dependency, what the user may read
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]
    Who = Annotated[Editor, Depends(editing.editor)]

    @app.post("/api/endpoints/{endpoint:path}/rollout", dependencies=[Depends(from_own_page)])
    def steer(readable: Lineage, who: Who, endpoint: str, wish: Wish) -> JSONResponse:
        """Hold the running rollout of an endpoint, let it continue, set the version's share or promote it."""
        view = readable.endpoint(endpoint)
        who.check(wish.run.partition("/")[0])
        if (wish.act == "weight") != (wish.weight is not None):
            raise HTTPException(400, "A weight, 1 to 99, belongs to the act weight alone; promote gives 100 %.")
        if (running := view.running) is None or running.run_id != wish.run:
            raise ChangedMeanwhile(
                "that rollout is over by now", where=f"endpoint {endpoint}", do="Load the page again"
            )
        act = Steering(act=wish.act, by=who.name, reason=wish.reason, step=wish.step, weight=wish.weight)
        with editing.writing() as store:
            found = store.steer_rollout(running, act)
        return JSONResponse({"endpoint": endpoint, "rollout": plain(found)})

    @app.post("/api/models/{model:path}/versions/{version}/note", dependencies=[Depends(from_own_page)])
    def describe(readable: Lineage, who: Who, model: str, version: str, note: Note) -> JSONResponse:
        """Write the description and the tags of a version; what they were before stays in its history."""
        found = readable.version(model, version)
        who.check(found.run.dag_id)
        try:
            text, tags = checked_note(note.description, note.tags)
        except ModelwayError as error:
            raise HTTPException(400, str(error)) from None
        number, actor = found.summary.number, who.name
        with editing.writing() as store:
            written = store.describe(
                model=model, version=number, description=text, tags=tags, actor=actor, since=note.since
            )
        return JSONResponse({"model": model, "version": number, "note": plain(written)})
