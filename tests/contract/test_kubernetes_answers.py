"""What the API server's answers carry beside objects: warnings in their headers, the text of a pod's log."""

import json
import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes.api import Api, warnings_of
from modelway.platforms.kubernetes.objects import Objects

RESTRICTED = (
    'would violate PodSecurity "restricted:latest": unrestricted capabilities (container "job" must set '
    'securityContext.capabilities.drop=["ALL"])'
)
LOG = "première ligne: 3 × 4 → 12 ✓\nsecond\n"
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mw-1", "namespace": "default"}}


class Handler(BaseHTTPRequestHandler):
    """Creates what it is sent with warnings, and has two pods, one of which never ran."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        escaped = RESTRICTED.replace('"', '\\"')
        self._answer(201, body, [f'299 - "{escaped}", 299 - "unknown field \\"spec.x\\""', '299 - "batch/v0 is old"'])

    def do_GET(self):
        if "/exec" in self.path:
            status = int(self.path.split("/pods/p")[1].split("/")[0])
            self._answer(status, json.dumps({"kind": "Status", "message": f"the reason of {status}"}).encode(), [])
        elif "/none/" in self.path:
            self._answer(200, b"", [])
        else:
            self._answer(200, LOG.encode(), [], kind="text/plain")

    def _answer(self, status, body, warnings, kind="application/json"):
        self.send_response(status)
        for warning in warnings:
            self.send_header("Warning", warning)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def api():
    from kubernetes import client

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_port}")))
    server.shutdown()
    server.server_close()


def test_the_servers_warnings_are_shown_at_once_with_what_to_do(api, caplog):
    with caplog.at_level(logging.WARNING):
        assert api.create(JOB)["metadata"]["name"] == "mw-1"
    shown = [record.getMessage() for record in caplog.records]
    assert len(shown) == 3
    assert all("the Job mw-1" in words for words in shown)
    assert RESTRICTED in shown[0]
    assert "kubernetes.patch" in shown[0]
    assert 'unknown field "spec.x"' in shown[1]
    assert "batch/v0 is old" in shown[2]


def test_warnings_of_an_answer_are_distinguished():
    assert warnings_of([]) == []
    assert warnings_of(['299 - "a, \\"b\\" c" "Sat, 28 Nov 2026 00:00:00 GMT", 299 x "d"']) == ['a, "b" c', "d"]
    assert warnings_of(["nonsense"]) == []


def test_a_pods_log_is_plain_text_or_nothing(api):
    assert api.pod_log("default", "mw-1", lines=10) == LOG
    assert api.pod_log("default", "none", lines=10) == ""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.FORBIDDEN),
        (403, FailureKind.FORBIDDEN),
        (404, FailureKind.REFUSED),
        (500, FailureKind.UNREACHABLE),
    ],
)
def test_a_command_in_a_pod_that_the_server_refuses_fails_with_its_reason(api, status, kind):
    with pytest.raises(SubmitFailed, match=f"the reason of {status}") as refused:
        Objects(api, manager="test").run_in("default", f"p{status}", container="haproxy", command=["true"])
    assert refused.value.kind is kind


def test_a_command_in_a_pod_of_a_server_that_is_not_there_can_be_tried_again():
    from kubernetes import client

    away = Api(client.ApiClient(client.Configuration(host="http://127.0.0.1:9")))
    with pytest.raises(SubmitFailed, match="Connection refused") as refused:
        Objects(away, manager="test").run_in("default", "p", container="haproxy", command=["true"])
    assert refused.value.kind is FailureKind.UNREACHABLE
    assert refused.value.retryable
