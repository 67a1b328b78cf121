"""The agent of a gateway's container: one request is one change, made whole or not at all."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from modelway.endpoints.docker.gateway import files_of
from modelway.endpoints.docker.state import FILE, ServerState, State
from modelway.endpoints.gateway import agent
from modelway.endpoints.gateway.commands import plan_commands
from modelway.endpoints.gateway.container import agent_command, in_container, read_answer
from modelway.endpoints.gateway.haproxy import plan
from modelway.endpoints.gateway.routes import MAX_REPLICAS, SLOTS
from modelway.endpoints.gateway.runtime_socket import Runtime
from modelway.errors import EndpointNotReady


@contextmanager
def answering(path: Path, received: list[str], answer: Callable[[str], str]) -> Iterator[None]:
    """Answer commands at a socket, as HAProxy does, and note each before it is answered."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(4096).decode().strip())
                    connection.sendall(answer(received[-1]).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A socket that answers as HAProxy does, and what it received."""
    path, received = tmp_path / "sock", list[str]()
    answers = {"prepare map plan.map": "New version created: 7\n", "add map @7 plan.map bad 1": "no such map\n"}
    with answering(path, received, lambda command: answers.get(command, "") + "\n"):
        yield path, received


def asked(request: Mapping[str, object]) -> dict[str, object]:
    """What the agent prints as the program of a container."""
    argv = [sys.executable, "-I", "-S", agent.__file__, agent.packed(request)]
    return dict(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout))


def test_one_execution_is_one_change_of_the_map(haproxy: tuple[Path, list[str]]) -> None:
    path, received = haproxy
    runs: list[list[str]] = []

    def execute(argv: list[str]) -> str:
        runs.append(argv)
        return json.dumps(asked({**agent.unpacked(argv[-1]), "socket": str(path)}))

    Runtime(in_container(execute)).set_plan({"plan": "10000:0", "versions": "1"})
    assert len(runs) == 1
    assert received == [
        "prepare map plan.map",
        "add map @7 plan.map plan 10000:0",
        "add map @7 plan.map versions 1",
        "commit map @7 plan.map",
    ]


def test_a_change_with_a_refused_command_is_not_committed(haproxy: tuple[Path, list[str]]) -> None:
    path, received = haproxy
    runtime = Runtime(lambda commands: agent.send(str(path), commands))
    with pytest.raises(EndpointNotReady, match=r"refused 'add map @new plan.map bad 1': no such map"):
        runtime.set_plan({"good": "1", "bad": "1", "plan": "10000:0"})
    assert received[-1] == "add map @7 plan.map bad 1"


def test_files_are_replaced_unless_one_was_changed_meanwhile(tmp_path: Path) -> None:
    files = {"haproxy.cfg": "frontend\n", "state.json": "one"}
    request = {"folder": str(tmp_path), "files": files, "unless_changed": {"state.json": ""}}
    assert asked(request) == {"answers": [], "statuses": [], "pages": []}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
    assert asked(request) == {"changed": True}
    known = sha256(b"one").hexdigest()
    second = {"folder": str(tmp_path), "files": {"state.json": "two"}, "unless_changed": {"state.json": known}}
    assert asked(second) == {"answers": [], "statuses": [], "pages": []}
    assert (tmp_path / "state.json").read_text() == "two"
    assert (tmp_path / "haproxy.cfg").read_text() == "frontend\n"


def test_a_page_that_does_not_answer_is_empty(tmp_path: Path) -> None:
    assert asked({"pages": ["http://127.0.0.1:9/metrics"]}) == {"answers": [], "statuses": [0], "pages": [""]}


class Late(BaseHTTPRequestHandler):
    """Is not ready the first two times; then it answers in pieces."""

    asked = 0

    def do_GET(self) -> None:
        Late.asked += 1
        self.send_response(200 if Late.asked > 2 else 503)
        self.end_headers()
        for piece in (b"rea", b"dy of ", self.headers["Host"].encode()):
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_pages_are_read_until_all_are_ready_or_its_patience_is_over(tmp_path: Path) -> None:
    Late.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        place = f"127.0.0.1:{server.server_port}"
        url = f"http://{place}/v2/health/ready?x=1"
        assert asked({"pages": [url]}) == {"answers": [], "statuses": [503], "pages": [""]}
        assert asked({"pages": [url], "patience": 60}) == {
            "answers": [],
            "statuses": [200],
            "pages": [f"ready of {place}"],
        }
        assert Late.asked == 3
        both = asked({"pages": ["http://127.0.0.1:9/", url], "patience": 0.2})
        assert (both["statuses"], both["pages"]) == ([0, 200], ["", f"ready of {place}"])
        assert Late.asked > 4
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ncut", (0, "")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull", (200, "full")),
        (b"HTTP/1.1 200 OK\r\n\r\n", (200, "")),
        (b"HTTP/1.1 500 Oh no\r\nContent-Length: 3\r\n\r\nwhy", (500, "")),
        (b"SSH-2.0 who\r\n", (0, "")),
        (b"", (0, "")),
    ],
)
def test_an_answer_that_is_broken_off_or_no_http_is_none(answer: bytes, expected: tuple[int, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert agent.read_pages([f"http://127.0.0.1:{server.getsockname()[1]}/metrics"]) == [expected]
        thread.join()


def test_servers_are_waited_for_until_one_of_each_group_is_up(tmp_path: Path) -> None:
    path, shown = tmp_path / "sock", list[str]()
    rows = ["slot0,main0,{0}", "slot0,main1,DOWN", "slot1,main0,{1}", "slot1,BACKEND,UP"]

    def stats(*states: str) -> str:
        return "\n".join(["# pxname,svname,status", *rows]).format(*states) + "\n"

    states = [("DOWN", "DOWN"), ("UP", "DOWN 1/2"), ("UP", "UP 1/2")]
    with answering(path, shown, lambda _: stats(*states[min(len(shown), len(states)) - 1])):
        up = [["slot0/main0", "slot0/main1"], ["slot1/main0"]]
        assert asked({"socket": str(path), "up": up, "patience": 60})["answers"] == []
        assert shown == ["show stat"] * 3
        asked({"socket": str(path), "up": [["slot0/main1"]], "patience": 0.2})
        assert len(shown) > 4


def test_a_gateway_that_does_not_answer_is_said(tmp_path: Path) -> None:
    printed = json.dumps(asked({"socket": str(tmp_path / "none"), "commands": plan_commands({})}))
    with pytest.raises(EndpointNotReady, match="the gateway does not answer"):
        read_answer(printed)
    with pytest.raises(EndpointNotReady, match="python3: not found"):
        read_answer("exec failed: python3: not found\n")


def test_the_request_of_a_change_is_one_argument() -> None:
    *program, request = agent_command(commands=plan_commands({"plan": "none"}), files={"plan.map": "plan none\n"})
    assert program == ["python3", "-I", "-S", "/opt/gateway/agent.py"]
    assert agent.unpacked(request)["files"] == {"plan.map": "plan none\n"}
    assert agent.unpacked('{"pages": []}') == {"pages": []}


def test_the_request_of_the_largest_endpoint_fits_into_an_argument_and_a_url() -> None:
    """128 KiB are an argument of Linux at most, and about 32 KB a URL of servers: here with twice as many servers."""
    digest = iter(range(1 << 20))
    state = State(name="digits-production", model="digits", stable="v1")
    for slot in range(SLOTS):
        for replica in range(MAX_REPLICAS):
            hexdigits = sha256(str(next(digest)).encode()).hexdigest()
            server = ServerState(
                name=f"v{slot}",
                version=slot,
                image=f"registry.example.org/models/digits@sha256:{hexdigits}",
                model="digits",
                model_path="/models",
                slot=slot,
                replica=replica,
                wanted=True,
                weight=10,
                made_of=hexdigits[:32],
                ip=f"172.18.{slot}.{replica}",
                started=True,
                limits={"Memory": 1 << 30, "MemorySwap": 1 << 30, "NanoCpus": 10**9, "RestartPolicy": "unless-stopped"},
                baseline={"requests": 123456 * slot, "client_errors": replica, "server_errors": 0, "named": slot},
                since=1e9 + slot / 7,
                epoch=1700000000,
                resources={"cpu": 1.0, "memory_bytes": 1 << 30},
            )
            state.servers.append(server)
    files = {**files_of(state.routes), FILE: state.text()}
    argv = agent_command(files=files, unless_changed={FILE: "0" * 64}, commands=plan_commands(plan(state.routes)))
    assert len(json.dumps(agent.unpacked(argv[-1]))) > 100_000
    assert len(urlencode([("command", word) for word in argv])) < 20_000
