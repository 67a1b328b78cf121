"""A real registry: Debian's ``docker-registry``."""

import json
import os
import shutil
import socket
import subprocess
import time

import httpx
import pytest

BINARY = shutil.which("docker-registry")
#: of the tests that start it; on CI they fail without it
needs_registry = pytest.mark.skipif(
    BINARY is None and os.environ.get("CI") != "true",
    reason="docker-registry is not installed: apt-get install docker-registry",
)
HTPASSWD = "me:$2b$05$B5kN.WcAR7DPzqj7htRSre2shLLx4yvPxObta2rTWo1z.fJ/f3Dwm\n"


class Registry:
    """A registry process with its storage and its log of requests."""

    def __init__(self, folder, *, auth=None, port=None, address="127.0.0.1"):
        self.storage, self.log = folder / "storage", folder / "log"
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        config = {
            "version": 0.1,
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": f"{address}:{self.port}"},
            **({"auth": auth} if auth else {}),
        }
        (folder / "config.yml").write_text(json.dumps(config))
        with self.log.open("ab") as log:
            command = [BINARY or "docker-registry", "serve", str(folder / "config.yml")]
            environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self):
        try:
            return httpx.get(f"http://{self.host}/v2/", trust_env=False).status_code in (200, 401)
        except httpx.HTTPError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def requests(self, *methods, after=0):
        """The (method, path and query) of the answered requests in the log."""
        lines = (json.loads(line) for line in self.log.read_bytes()[after:].splitlines() if line.startswith(b"{"))
        answered = [
            (line["http.request.method"], line["http.request.uri"]) for line in lines if "http.response.status" in line
        ]
        return [(method, uri) for method, uri in answered if not methods or method in methods]

    def blob(self, digest):
        hexdigits = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / hexdigits[:2] / hexdigits / "data"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def basic_auth(tmp_path):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    return {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
