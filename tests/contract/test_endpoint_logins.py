"""The registry's login of a deployment, and the images of an endpoint: only the registry that it belongs to gets it."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from modelway.endpoints.base import EndpointSpec, Predictor
from modelway.errors import RegistryRefused
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.settings import Settings

OURS = "Basic " + base64.b64encode(b"me:s3cret").decode()


class LockedRegistry:
    """A registry that lets nobody in, and notes the logins that it was sent."""

    def __init__(self) -> None:
        logins: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                logins.append(self.headers["Authorization"])
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="locked"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *given: object) -> None:
                pass

        self.logins = logins
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,)).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[LockedRegistry, LockedRegistry]]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    found = LockedRegistry(), LockedRegistry()
    yield found
    for each in found:
        each.stop()


def deploy(tmp_path: Path, image_of: LockedRegistry, *, login_of: str) -> None:
    """Deploy an image of one registry, with the connection ``modelway_registry`` naming one."""
    settings = Settings(
        home=tmp_path,
        artifact_root=tmp_path.as_uri(),
        lineage_url="sqlite://",
        registry_host=login_of,
        registry_login="me",
        registry_password="s3cret",
    )
    predictor = Predictor(name="v1", version=1, image=f"{image_of.host}/models/tiny@sha256:{'1' * 64}", weight=1)
    spec = EndpointSpec(name="tiny", model="tiny", predictors=(predictor,))
    with pytest.raises(RegistryRefused, match="refuses access"):
        open_endpoint("local", settings).apply(spec)


def test_the_login_goes_to_its_own_registry(registries: tuple[LockedRegistry, LockedRegistry], tmp_path: Path) -> None:
    own, _ = registries
    deploy(tmp_path, own, login_of=own.host)
    assert own.logins == [None, OURS]


def test_the_login_is_not_sent_to_the_registry_that_an_image_names(
    registries: tuple[LockedRegistry, LockedRegistry], tmp_path: Path
) -> None:
    own, other = registries
    deploy(tmp_path, other, login_of=own.host)
    assert (own.logins, set(other.logins)) == ([], {None})


def test_a_login_of_no_registry_is_sent_to_none(
    registries: tuple[LockedRegistry, LockedRegistry], tmp_path: Path
) -> None:
    _, other = registries
    deploy(tmp_path, other, login_of="")
    assert set(other.logins) == {None}
