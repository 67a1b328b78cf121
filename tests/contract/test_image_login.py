"""The image job before a registry that wants a login."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import Artifact, file_digest
from modelway.errors import RegistryRefused
from modelway.runs.image_job import ImageOrder, build_ordered
from modelway.runs.messages.version import KnownVersion


class Closed(BaseHTTPRequestHandler):
    """A registry that wants a login."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def test_a_job_without_a_login_names_where_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No settings of the user that runs the tests.
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    (tmp_path / "files/model").mkdir(parents=True)
    (tmp_path / "files/model/model.onnx").write_bytes(b"program")
    archive = tmp_path / "archive.zip"
    manifest = write_archive(folder=tmp_path / "files", documents={}, to=archive)
    stored = Artifact(uri=archive.as_uri(), digest=file_digest(archive), size=archive.stat().st_size)
    version = KnownVersion(model="digits", version=3, archive=stored, model_digest=manifest.model_digest)
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever).start()
        repository = f"127.0.0.1:{server.server_port}/models/digits"
        order = ImageOrder(
            version=version,
            base="scratch",
            path="/models",
            builder="oci",
            repository=repository,
            tag="v3",
            platform={},
        )
        try:
            with pytest.raises(RegistryRefused, match=r"refuses access \(401\), and the job has no login.*push_secret"):
                build_ordered(order.params(), archive=archive, folder=tmp_path)
            # With a login it is another matter.
            monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
            with pytest.raises(RegistryRefused, match=r"refuses access \(401\)\..*Check the registry's connection"):
                build_ordered(order.params(), archive=archive, folder=tmp_path)
        finally:
            server.shutdown()
