"""The gateway in front of servers that misbehave: what is promised to callers, and what counts against a version.

A real HAProxy runs for the whole module; each test gives version 2 a stand-in of its own. Version 1 is the stable one.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.gateway import process
from modelway.endpoints.gateway.process import Gateway as Process
from modelway.endpoints.gateway.process import Listener
from modelway.endpoints.gateway.routes import Route, Routes

from tests.endpoint_clients import eventually

PROGRAM = Path(__file__).parents[1] / "stand_in_server.py"


@dataclass
class Server:
    version: int
    weight: int
    port: int | None = None
    wanted: bool = True

    @property
    def slot(self) -> int:
        return self.version - 1


class Gateway:
    """The gateway, and a stand-in for each version behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listener = Listener()
        self.starts = 0
        self.process = Process(folder, self.listener, started=self.count_start)
        self.servers = [Server(version, weight=100 * (version - 1)) for version in (1, 2)]
        self.stand_ins: dict[int, subprocess.Popen[bytes]] = {}
        self.before: dict[int, dict[str, int]] = {}

    def count_start(self) -> None:
        self.starts += 1

    @property
    def routes(self) -> Routes:
        routes = (
            Route(
                name=f"v{server.version}",
                version=server.version,
                slot=server.slot,
                addresses=(f"127.0.0.1:{server.port}" if server.port else None,),
                weight=server.weight,
                wanted=server.wanted,
            )
            for server in self.servers
        )
        return Routes(all=tuple(routes), stable_name="v1")

    def put(self, version: int, mode: str) -> None:
        """Put a stand-in behind the gateway and count from here on."""
        self.end(version)
        server = self.servers[version - 1]
        server.port = _free_port()
        argv = [sys.executable, str(PROGRAM), str(server.port), str(self.folder / "received"), mode]
        self.stand_ins[version] = subprocess.Popen(argv)
        eventually(lambda: _listens(server.port))
        self.process.ensure(self.routes, host="127.0.0.1", port=None)
        self.process.push(self.routes)
        (self.folder / "received").write_text("")
        self.before = {each.version: self.process.slot_counters(each.slot) for each in self.servers}

    def end(self, version: int) -> None:
        if stand_in := self.stand_ins.pop(version, None):
            stand_in.kill()
            stand_in.wait()

    def received(self) -> Counter[int]:
        """How many requests each version received."""
        ports = {server.port: server.version for server in self.servers}
        return Counter(ports[int(line)] for line in (self.folder / "received").read_text().split())

    def counts(self, version: int) -> PredictorMetrics:
        """What was counted since the stand-in was put there."""
        now = self.process.slot_counters(self.servers[version - 1].slot)
        return PredictorMetrics(**{name: now[name] - self.before[version][name] for name in now}, since=0.0)

    def is_up(self, version: int) -> bool:
        stats = self.process.runtime.stats()
        return stats[f"slot{self.servers[version - 1].slot}", "main0"]["status"].startswith("UP")

    def ask(self, path: str = "/v2/models/tiny/infer") -> tuple[int, int | None, bytes]:
        """Return status, version and body of the answer to a POST."""
        connection = http.client.HTTPConnection("127.0.0.1", self.listener.port or 0, timeout=30)
        try:
            connection.request("POST", path, b"{}")
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        ports = {str(server.port): server.version for server in self.servers}
        return answer.status, ports.get(answer.getheader("x-port", "")), body


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    yield gateway
    gateway.process.stop()
    for version in (1, 2):
        gateway.end(version)


@pytest.fixture
def gateway(shared: Gateway) -> Gateway:
    """The gateway with all traffic on version 2, which answers well."""
    if 1 not in shared.stand_ins:
        shared.servers[1].port = None
        shared.servers[1].weight = 0
        shared.put(1, "ok")
    shared.servers[0].weight, shared.servers[1].weight = 0, 100
    shared.put(2, "ok")
    return shared


@pytest.mark.parametrize("weight", [0, 50, 100])
def test_a_url_that_names_a_version_goes_to_it_whatever_the_weights(gateway: Gateway, weight: int) -> None:
    gateway.servers[0].weight, gateway.servers[1].weight = weight, 100 - weight
    gateway.process.push(gateway.routes)
    for path in ("versions/{}/infer", "versions/{}", "versions/{}/ready"):
        for version in (1, 2):
            answers = [gateway.ask(f"/v2/models/tiny/{path.format(version)}") for _ in range(5)]
            assert [(status, by) for status, by, _ in answers] == [(200, version)] * 5
    assert [gateway.counts(version).requests for version in (1, 2)] == [15, 15]


@pytest.mark.parametrize("version", ["3", "02", "plan", "%22", "-1"])
def test_a_version_that_is_not_there_is_a_404_that_counts_against_nobody(gateway: Gateway, version: str) -> None:
    status, by, body = gateway.ask(f"/v2/models/tiny/versions/{version}/infer")
    assert (status, by) == (404, None)
    assert json.loads(body)["error"].endswith("behind this endpoint, there are 1,2")
    assert gateway.counts(1).requests == gateway.counts(2).requests == 0


@pytest.mark.parametrize(
    "path",
    [
        "tiny/sketches",
        "tiny/sketches/",
        "tiny/sketches?x",
        "tiny/%73ketches",
        "tiny%2fsketches",
        "tiny/versions/2/sketches",
    ]
    + ["versions/sketches", "tiny/versions/3/sketches", "/tiny/../tiny/sketches#x"],
)
def test_nobody_reads_ids_and_answers_of_others_there(gateway: Gateway, path: str) -> None:
    assert gateway.ask(f"/v2/models/{path}")[:2] in [(404, None), (400, None)]
    assert gateway.received() == Counter()


@pytest.mark.parametrize("path", ["sketches/infer", "sketches", "sketches/versions/2", "tiny/versions/2/infer"])
def test_a_model_may_be_called_so(gateway: Gateway, path: str) -> None:
    assert gateway.ask(f"/v2/models/{path}")[:2] == (200, 2)


def test_a_version_that_left_is_gone_from_its_url_at_once(gateway: Gateway) -> None:
    gateway.servers[0].weight = 100
    gateway.servers[1].wanted = False
    try:
        gateway.process.push(gateway.routes)
        assert gateway.ask("/v2/models/tiny/versions/2/infer")[0] == 404
        assert [gateway.ask()[1] for _ in range(5)] == [1] * 5
    finally:
        gateway.servers[1].wanted = True


@pytest.mark.parametrize(
    ("mode", "status", "errors"),
    [("ok", 200, 0), ("400", 400, 0), ("500", 500, 1), ("close", 502, 1)],
)
def test_a_request_counts_once_whatever_comes_of_it(gateway: Gateway, mode: str, status: int, errors: int) -> None:
    gateway.put(2, mode)
    answers = [gateway.ask() for _ in range(4)]
    assert [code for code, _, _ in answers] == [status] * 4
    counts = gateway.counts(2)
    assert (counts.requests, counts.errors, counts.rerouted) == (4, 4 * errors, 0)
    assert counts.client_errors == (4 if status == 400 else 0)
    assert gateway.counts(1).requests == 0
    assert gateway.received() == {2: 4}, "each was given to one server, once"


def test_an_answer_that_breaks_off_is_one_error(gateway: Gateway) -> None:
    gateway.put(2, "half")
    with pytest.raises(http.client.IncompleteRead):
        gateway.ask()
    eventually(lambda: gateway.counts(2).broken_answers == 1)
    assert (gateway.counts(2).requests, gateway.counts(2).errors) == (1, 1)


def test_a_request_that_ends_its_server_reaches_no_other_one(gateway: Gateway) -> None:
    gateway.put(2, "die")
    status, _, body = gateway.ask()
    assert status == 502
    assert "no other server was given" in json.loads(body)["error"]
    assert gateway.received() == {2: 1}
    assert gateway.stand_ins[1].poll() is None
    eventually(lambda: gateway.stand_ins[2].poll() is not None)
    # Now nobody listens there: what was never received goes to the stable version, each request counted once.
    assert {gateway.ask()[:2] for _ in range(5)} == {(200, 1)}
    counts = gateway.counts(2)
    assert (counts.requests, counts.server_errors, counts.rerouted, counts.errors) == (6, 1, 5, 6)
    assert gateway.counts(1).requests == 0


def test_a_version_that_is_down_is_named_by_its_url_in_vain(gateway: Gateway) -> None:
    gateway.end(2)
    status, _, body = gateway.ask("/v2/models/tiny/versions/2/infer")
    assert (status, json.loads(body)) == (503, {"error": "no server of this version answers"})
    assert gateway.received() == {}
    counts = gateway.counts(2)
    assert (counts.requests, counts.errors) == (1, 1)


def test_a_caller_who_goes_away_is_no_error(gateway: Gateway) -> None:
    gateway.put(2, "slow")
    with socket.create_connection(("127.0.0.1", gateway.listener.port or 0)) as caller:
        caller.sendall(b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        eventually(lambda: gateway.received() == {2: 1})
    assert gateway.ask()[0] == 200
    counts = gateway.counts(2)
    assert (counts.requests, counts.errors) == (2, 0)


def test_a_server_that_is_busy_is_not_taken_for_gone(gateway: Gateway) -> None:
    gateway.put(2, "busy")
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(gateway.ask)
        while not answer.done():
            assert gateway.is_up(2)
    assert answer.result()[:2] == (200, 2)


def test_a_head_that_does_not_come_is_given_up(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.listener.port or 0)) as caller:
        caller.settimeout(30)
        caller.sendall(b"POST /v2/models/tiny/infer HTTP/1.1\r\n")
        assert b" 408 " in caller.recv(1000)
    assert gateway.counts(2).requests == 0


def test_a_gateway_of_an_older_configuration_is_replaced(gateway: Gateway) -> None:
    before, starts = gateway.listener.pid, gateway.starts
    gateway.process.ensure(gateway.routes, host="127.0.0.1", port=None)
    assert gateway.listener.pid == before
    path = gateway.folder / "haproxy.cfg"
    path.write_text("# Written by modelway when the gateway starts\n" + path.read_text())
    gateway.process.ensure(gateway.routes, host="127.0.0.1", port=None)
    assert gateway.listener.pid != before
    assert gateway.starts == starts + 1
    assert gateway.ask()[0] == 200


def test_an_open_connection_is_answered_once_more_when_the_gateway_is_to_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default it waits three seconds, which a busy machine may need between two of these lines.
    monkeypatch.setattr(process, "config", partial(process.config, stop_seconds=60))
    gateway.process.stop()
    gateway.process.ensure(gateway.routes, host="127.0.0.1", port=None)
    pid = gateway.listener.pid
    assert pid

    def ask() -> http.client.HTTPResponse:
        client.request("POST", "/v2/models/tiny/infer", b"{}")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok")
        return answer

    client = http.client.HTTPConnection("127.0.0.1", gateway.listener.port or 0, timeout=30)
    try:
        assert not ask().will_close
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: not _listens(gateway.listener.port))
        assert ask().will_close, "the client knows that it must connect again"
    finally:
        client.close()
    eventually(lambda: not gateway.process.has_process)


def test_an_idle_gateway_sleeps(gateway: Gateway) -> None:
    status = Path(f"/proc/{gateway.listener.pid}/status")

    def wakes() -> int:
        return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)[0])

    begin, before = time.monotonic(), wakes()
    time.sleep(2)
    # The checks of two servers and of two that stand in for them; places without a server add next to nothing.
    assert (wakes() - before) / (time.monotonic() - begin) < 150


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _listens(port: int | None) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port or 0)).close()
    except OSError:
        return False
    return True
