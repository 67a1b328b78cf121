"""What the exporters' tests send to: a server that records and misbehaves on request, and one before MLflow."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


class RecordingServer:
    """Records the bodies that it answers with 2xx; ``answers`` is asked for each request and may be replaced.

    An answer is a status, ``(status, body)``, ``"close"`` for a connection that ends without an answer, or ``"hang"``
    for one that never gets any.
    """

    def __init__(self) -> None:
        self.answers: Callable[[Any], Any] = lambda _body: 200
        self.taken: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Stop it; those that hang end, too."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else None
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            reported = {"path": request.path, "authorization": request.headers.get("Authorization"), "body": body}
            self.requests.append(reported)
        try:
            answer = self.answers(body)
            if answer == "hang":
                self._over.wait(120)
            if answer in ("hang", "close"):
                request.close_connection = True
                return
            status, text = answer if isinstance(answer, tuple) else (answer, "{}")
            if status < 300:
                self.taken.append(body)
            self._send(request, status, text.encode())
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, request: BaseHTTPRequestHandler, status: int, text: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)


class Doorway(RecordingServer):
    """Stands before another server: ``lose`` is asked with each request's number and loses its answer where true."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.lose: Callable[[int], bool] = lambda _number: False
        self.passed = 0
        super().__init__()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in request.headers.items() if name.lower() in ("content-type",)}
        self.passed += 1
        number = self.passed
        url = f"{self.target}{request.path}"
        lost = self.lose(number)
        try:
            got = httpx.request(request.command, url, content=data, headers=headers, trust_env=False, timeout=60)
        except httpx.HTTPError:
            lost = True
        if lost:
            request.close_connection = True
            return
        self._send(request, got.status_code, got.content)


@contextmanager
def recording_server() -> Iterator[RecordingServer]:
    """Start a server that takes everything until another answer is set."""
    server = RecordingServer()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def doorway(target: str) -> Iterator[Doorway]:
    """Start a server that passes everything on until another answer is set."""
    server = Doorway(target)
    try:
        yield server
    finally:
        server.close()
