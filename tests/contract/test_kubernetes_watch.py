"""The watch against an API server of a few lines, which says what a real one says only now and then."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from modelway.backends.kubernetes.attempts import AttemptRecord
from modelway.backends.kubernetes.objects import Objects
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes import watch as watching
from modelway.platforms.kubernetes.labels import GROUP

from tests.job_folders import wait_for

NAME = "mw-tiny-train-1"
RECORD = AttemptRecord(name=NAME, namespace="ml", nodes=1, launcher="job", start_within_seconds=60, token="ours")


def thing(kind, version, *, name=NAME, phase="Running"):
    labels = {f"{GROUP}/try": name, f"{GROUP}/token": RECORD.token, "app.kubernetes.io/managed-by": "modelway"}
    metadata = {"name": f"{name}-{kind}", "uid": f"{kind} of {name}", "labels": labels, "resourceVersion": str(version)}
    spec = {"template": {"spec": {"containers": []}}} if kind == "jobs" else {"containers": []}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase} if kind == "pods" else {}}


class Server(ThreadingHTTPServer):
    """Lists what it is given; sends the events that are put; counts what it is asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.things = {"jobs": [], "pods": []}
        self.events = {"jobs": queue.Queue(), "pods": queue.Queue()}
        self.asked = []
        self.status = 200
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Say nothing of clients that go away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *given):
        """Say nothing."""

    def do_GET(self):
        url = urlsplit(self.path)
        kind, asked = url.path.rsplit("/", 1)[1], parse_qs(url.query)
        word = "watch" if "watch" in asked else "list"
        self.server.asked.append((word, kind, asked.get("resourceVersion", [None])[0]))
        if self.server.status != 200:
            self.answer(b"{}")
        elif word == "list":
            found = {"items": self.server.things.get(kind, []), "metadata": {"resourceVersion": "10"}}
            self.answer(json.dumps(found).encode())
        else:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while (event := self.server.events[kind].get()) is not None:
                self.piece(json.dumps(event).encode() + b"\n")
            self.piece(b"")

    def answer(self, body):
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def piece(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@pytest.fixture
def server():
    made = Server()
    yield made
    for events in made.events.values():
        events.put(None)
    made.shutdown()
    made.server_close()


@pytest.fixture
def watch(server, monkeypatch):
    from kubernetes import client

    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.1)
    configuration = client.Configuration()
    configuration.host, configuration.retries = f"http://127.0.0.1:{server.server_port}", False
    server.things = {kind: [thing(kind, 5)] for kind in ("jobs", "pods")}
    made = watching.Watch(client=client.ApiClient(configuration), namespace="ml")
    yield made
    made._used = float("-inf")


def phase(watch):
    known = watch.objects(NAME, within_seconds=5)
    return known[1][0]["status"]["phase"] if known and known[1] else None


def test_it_lists_once_and_is_reported_of_changes(server, watch):
    assert phase(watch) == "Running"
    server.events["pods"].put({"type": "MODIFIED", "object": thing("pods", 11, phase="Succeeded")})
    wait_for(lambda: phase(watch) == "Succeeded", what="the change")
    server.events["pods"].put({"type": "DELETED", "object": thing("pods", 12)})
    wait_for(lambda: phase(watch) is None, what="the end of the pod")
    assert len(server.asked) == 4, "each kind is listed once and watched once"


def test_a_watch_that_ends_continues_where_it_was(server, watch):
    assert phase(watch) == "Running"
    server.events["pods"].put({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "20"}}})
    server.events["pods"].put(None)
    wait_for(lambda: ("watch", "pods", "20") in server.asked, what="the next watch")
    assert [asked for asked in server.asked if asked[:2] == ("list", "pods")] == [("list", "pods", None)]


def test_a_version_that_is_too_old_is_answered_by_a_new_list(server, watch):
    assert phase(watch) == "Running"
    server.things["pods"] = [thing("pods", 30, phase="Failed")]
    server.events["pods"].put({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
    wait_for(lambda: phase(watch) == "Failed", what="the new list")


def test_a_server_that_is_unavailable_is_asked_by_the_watch_alone_and_found_again(server, watch):
    objects = Objects(lambda: pytest.fail("the API is not asked for a single job"))
    objects._watches["ml"] = watch
    assert objects.of_attempt(RECORD)[0]
    server.status = 503
    for events in server.events.values():
        events.put(None)

    def away():
        try:
            objects.of_attempt(RECORD)
        except SubmitFailed as error:
            return error
        return None

    error = wait_for(away, what="that the server is unavailable")
    assert error.kind is FailureKind.UNREACHABLE
    server.status = 200
    wait_for(lambda: away() is None, what="the server is back")
    assert phase(watch) == "Running"


def test_who_may_list_but_not_watch_is_asked_for_each(server, watch):
    asked = []

    class Api:
        def jobs(self, namespace, selector):
            return asked.append(selector) or [thing("jobs", 1)]

        def pods(self, namespace, selector):
            return []

    assert phase(watch) == "Running"
    objects = Objects(Api)
    objects._watches["ml"] = watch
    server.status = 403
    for events in server.events.values():
        events.put(None)
    wait_for(lambda: any(kind.error for kind in watch._kinds.values()), what="the refusal")
    assert objects.of_attempt(RECORD)[0]
    assert asked == [f"{GROUP}/try={NAME},{GROUP}/token=ours"]


def test_the_first_question_of_a_process_begins_no_watch(server):
    class Api:
        def jobs(self, namespace, selector):
            return []

        pods = jobs

    objects = Objects(Api)
    objects.of_attempt(RECORD)
    assert objects._watches == {}
    assert server.asked == []
