"""The style sheet and the scripts of the pages: under a name with their content's hash, so that browsers cache them."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

_FOLDER = Path(__file__).parent / "templates"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
#: a changed file has another name
_HEADERS = {"cache-control": "private, max-age=31536000, immutable", "vary": "accept-encoding"}


@dataclass(frozen=True, kw_only=True)
class StaticFile:
    """A file as it is sent."""

    name: str
    """with the hash of its content"""
    media_type: str
    body: bytes
    packed: bytes
    """with gzip"""


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return the files by their names without a hash."""
    return {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


def static_path(name: str) -> str:
    """Return the path of a file below that of the pages.

    :param name: without a hash
    """
    return f"static/{static_files()[name].name}"


def add_static_files(app: FastAPI) -> None:
    """Add the files to the application."""
    by_name = {file.name: file for file in static_files().values()}

    @app.get("/static/{name}", include_in_schema=False)
    def static(request: Request, name: str) -> Response:
        if (file := by_name.get(name)) is None:
            raise HTTPException(404, "There is no such file any more: load the page again.")
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers = _HEADERS | {"content-encoding": "gzip"}
            return Response(file.packed, media_type=file.media_type, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=_HEADERS)


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:16]
    return StaticFile(
        name=f"{path.stem}.{digest}{path.suffix}",
        media_type=_TYPES[path.suffix],
        body=body,
        packed=gzip.compress(body, 9, mtime=0),
    )
