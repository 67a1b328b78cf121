"""The pages as Airflow mounts them, for readers that a header names."""

from typing import Annotated

from fastapi import Header, HTTPException
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from modelway.ui.editing import Editing, Editor
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient


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
        #: below which the files of versions are
        self.artifact_root = "file:///nowhere"
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
        return TestClient(self._app, base_url="http://testserver/team", headers=headers, root_path="/team")
