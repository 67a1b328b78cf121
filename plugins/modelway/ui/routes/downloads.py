"""The files of a version, sent to whoever may read its record."""

import base64
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from modelway.artifacts.downloads import open_download
from modelway.artifacts.store import Artifact
from modelway.lineage.records.version import VersionDetail
from modelway.ui.readable import ReadableLineage


def add_downloads(app: FastAPI, lineage: Callable[..., ReadableLineage], artifact_root: Callable[[], str]) -> None:
    """Add the paths to the application.

    :param lineage: a FastAPI dependency, what the user may read
    :param artifact_root: returns the fsspec URL below which artifacts are stored
    """
    Lineage = Annotated[ReadableLineage, Depends(lineage)]

    @app.get("/api/models/{model:path}/versions/{version}/archive", response_class=StreamingResponse)
    def archive(readable: Lineage, model: str, version: str) -> Response:
        """The whole archive of a version, a ZIP."""
        found = readable.version(model, version)
        whole, name = _archive(found), f"{model.replace('/', '-')}-v{found.summary.number}.zip"
        return _sent(open_download(whole, root=artifact_root()), whole, name=name)

    @app.get("/api/models/{model:path}/versions/{version}/file", response_class=StreamingResponse)
    def file(readable: Lineage, model: str, version: str, path: str) -> Response:
        """One file of a version, by its path in the record."""
        found = readable.version(model, version)
        if (recorded := next((each for each in found.files if each.path == path), None)) is None:
            number = found.summary.number
            raise HTTPException(404, f"Version {number} of {model} has no such file; its record lists those it has.")
        member = Artifact(uri=recorded.path, digest=recorded.digest, size=recorded.size)
        parts = open_download(_archive(found), root=artifact_root(), member=member)
        return _sent(parts, member, name=PurePosixPath(path).name)


def _archive(found: VersionDetail) -> Artifact:
    about = found.summary
    return Artifact(uri=about.archive_uri, digest=about.archive_digest, size=about.archive_size)


def _sent(parts: Iterator[bytes], what: Artifact, *, name: str) -> Response:
    digest = base64.b64encode(bytes.fromhex(what.digest.removeprefix("sha256:"))).decode()
    headers = {
        "content-length": str(what.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "repr-digest": f"sha-256=:{digest}:",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-store",
        # Or the server would compress it once more, and its length would be unknown.
        "content-encoding": "identity",
    }
    return StreamingResponse(parts, media_type="application/octet-stream", headers=headers)
