"""The pages as Airflow mounts them, for readers that a header names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import Header, HTTPException
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from modelway.ui.editing import Editing, Editor
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

NOWHERE = "file:///nowhere"


def reader_dags(reader: Annotated[str | None, Header()] = None) -> frozenset[str]:
    if reader is None:
        raise HTTPException(401, "Not authenticated")
    return frozenset(reader.split(","))


def editor(reader: Annotated[str | None, Header()] = None, writer: Annotated[str, Header()] = "") -> Editor:
    """Who writes, by a header such as ``mia:digits,letters``."""
    reader_dags(reader)
    name, _, dags = writer.partition(":")
    return Editor(name=name or "somebody", dags=frozenset(dags.split(",")))


class MountedPages:
    """One application for many tests: each sets the URL of the lineage that it reads."""

    def __init__(self) -> None:
        self._url = ""
        self._portal: BlockingPortal | None = None
        #: below which the files of versions are
        self.artifact_root = NOWHERE
        editing = Editing(editor=editor, lineage=lambda: open_lineage(self._url))
        app = create_app(
            store_url=lambda: self._url,
            readable_dags=reader_dags,
            editing=editing,
            artifact_root=lambda: self.artifact_root,
        )
        self.routes = app.routes
        self._app = Starlette(routes=[Mount("/modelway", app)])

    def client(self, url: str, *, headers: dict[str, str]) -> TestClient:
        """Return a client of the pages over the lineage at a URL."""
        self._url = url
        client = TestClient(self._app, base_url="http://testserver/team", headers=headers, root_path="/team")
        # Else it starts a thread with an event loop for each request.
        client.portal = self._portal
        return client

    @contextmanager
    def for_a_module(self) -> Iterator[None]:
        """The settings as they are at first, and one event loop."""
        self._url, self.artifact_root = "", NOWHERE
        with start_blocking_portal() as self._portal:
            yield
        self._portal = None
