"""Jobs on a Docker engine that is reached over a network: one that is slow, away, never there, or forbids."""

import contextlib
import http.server
import json
import socket
import threading

import pytest
from modelway.backends.base import JobState, Options
from modelway.backends.docker.backend import DockerBackend
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.job.contract import recorded_checkpoints
from modelway.platforms.docker.engine import Engine

from tests.docker_engine import inspected, read_log, require_engine
from tests.job_folders import WAITS, put, succeeded, wait_for


@pytest.fixture
def engine():
    return require_engine()


@pytest.fixture
def name():
    return "docker"


class Proxy:
    """Port of this machine that leads to the engine's socket, for as long as it is open."""

    def __init__(self, path):
        self.path, self.open, self.pairs = path, True, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self.server.accept()
            except OSError:
                return
            if not self.open:
                here.close()
                continue
            there = socket.socket(socket.AF_UNIX)
            there.connect(self.path)
            self.pairs += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        """Answer no more, and end the connections that there are."""
        self.open = False
        for each in self.pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.pairs.clear()

    def close(self):
        self.cut()
        self.server.close()


@pytest.fixture
def proxy(engine):
    if not engine.api.base_url.startswith("http+docker"):
        pytest.fail("this test leads the network to the engine's socket: unset DOCKER_HOST")
    proxy = Proxy("/var/run/docker.sock")
    yield proxy
    proxy.close()


@pytest.fixture
def remote(proxy, home):
    """The engine as one that is reached through the network only."""
    return DockerBackend(home=home, client=proxy.address)


@pytest.fixture
def remote_jobs(remote, jobs, backend):
    """Submit jobs to the engine through the network."""

    def submit(code, **asked):
        backend.engine = remote.engine
        return jobs(code, **asked)

    yield submit
    backend.engine = Engine()


def test_an_engine_elsewhere_gets_every_file_through_its_api(remote, remote_jobs, engine, tmp_path):
    handle = remote_jobs(WAITS, options=Options(memory_bytes=200 << 20))
    put(remote, handle, "go")
    succeeded(remote, handle)
    found = inspected(handle)
    assert not found["HostConfig"]["Binds"]
    assert [mount["Type"] for mount in found["Mounts"]] == ["volume"]
    assert str(tmp_path) not in json.dumps(found), "nothing leads to a place of the worker"
    (checkpoint,) = recorded_checkpoints(remote.folder(handle))
    assert checkpoint.path.read_text() == "done"


def test_an_engine_that_is_unavailable_is_waited_for_and_nothing_is_lost(proxy, remote, remote_jobs):
    code = (
        "import time\ndef train(job):\n    (job.output / 'pid').write_text('1')\n    number = 0\n"
        "    while not (job.output / 'go').exists():\n"
        "        print('line', number); number += 1; time.sleep(0.01)\n"
    )
    handle = remote_jobs(code)
    lines, offset = wait_for(lambda: (found := read_log(remote, handle)) and found[0] and found, what="the first line")
    proxy.cut()
    status = remote.describe(handle)
    assert (status.state, status.failure) == (JobState.UNKNOWN, None)
    assert "the Docker engine does not answer" in status.reason
    assert remote.logs(handle, offset=offset) == ("", offset)
    with pytest.raises(SubmitFailed, match="does not answer") as refused:
        remote_jobs(code)
    assert (refused.value.kind, refused.value.retryable) == (FailureKind.UNREACHABLE, True)
    proxy.open = True
    assert remote.describe(handle).state is JobState.RUNNING
    assert remote_jobs(code) == handle
    put(remote, handle, "go")
    succeeded(remote, handle)
    rest, end = read_log(remote, handle, offset=offset)
    assert lines + rest == [f"line {number}" for number in range(len(lines + rest))]
    assert remote.logs(handle, offset=end) == ("", end)


def test_an_engine_that_was_never_there_is_named(home, run):
    away = DockerBackend(home=home, client="tcp://127.0.0.1:1")
    with pytest.raises(SubmitFailed, match="DOCKER_HOST") as refused:
        away.engine.containers({})
    assert refused.value.kind is FailureKind.UNREACHABLE


def test_an_engine_that_forbids_is_named(home, jobs, backend):
    class Forbids(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith("/version"):
                answer, status = b'{"ApiVersion": "1.41"}', 200
            else:
                answer, status = b'{"message": "authorization denied by plugin house"}', 403
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbids) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        backend.engine = Engine(f"tcp://127.0.0.1:{server.server_port}")
        with pytest.raises(SubmitFailed, match="authorization denied by plugin house") as refused:
            jobs(WAITS)
        server.shutdown()
    assert (refused.value.kind, refused.value.retryable) == (FailureKind.FORBIDDEN, False)
