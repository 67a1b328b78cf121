"""Google's APIs on this machine, over HTTP: ``GoogleFake`` validates every request against Google's own discovery
documents and gives it to the rules of a service.

A service is a class of a module of its own that registers a handler for each of its methods::

    class VertexJobs:
        def __init__(self, fake: GoogleFake) -> None:
            fake.handle("aiplatform.projects.locations.customJobs.create", self.create)

        def create(self, call: Call) -> dict[str, Any]:
            ...  # call.names["parent"], call.query, call.body; raise Refused(429, "…")

    with GoogleFake(VertexJobs) as fake:
        api = GoogleApi(fake.connection())
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from modelway.platforms.google.connection import ENDPOINTS, GoogleConnection, Source

from tests.google import documents
from tests.google.clock import Clock
from tests.google.logins import Logins
from tests.google.operations import Operations

CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
#: what a fault does besides answering with a status
LOST_ANSWER, CUT, NOT_DONE = "lost_answer", "cut", "not_done"


class Refused(Exception):
    """An error as Google answers it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it.

        :param code: the canonical one; default: that of the HTTP status
        :param reason: of a google.rpc.ErrorInfo with ``metadata``
        """
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        body = {"code": status, "message": message, "status": code or CODES.get(status, "UNKNOWN")}
        if reason:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            info = {"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": dict(metadata or {})}
            body["details"] = [info]  # type: ignore[assignment]
        self.document = {"error": body}


@dataclass(frozen=True)
class Call:
    """A request that Google would have accepted as far as its form goes."""

    fake: "GoogleFake"
    method: documents.Method
    names: Mapping[str, str]
    """what the path names: ``parent`` or ``name``, and so on"""
    query: Mapping[str, str]
    body: dict[str, Any]
    """without the fields that are output only"""
    account: str
    """who calls; empty without a login"""


@dataclass
class Seen:
    """A request in the log."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    status: int = 0


@dataclass
class _Fault:
    method: str
    times: int
    what: "str | int | Refused"


Handler = Callable[[Call], Mapping[str, Any]]


class GoogleFake:
    """The services, on one port of this machine."""

    def __init__(self, *services: Callable[["GoogleFake"], Any], clock: Clock | None = None) -> None:
        """Make the services; ``start`` (or ``with``) opens the port.

        :param services: each is called with the fake and registers its handlers
        """
        self.clock = clock or Clock()
        self.operations = Operations(self.clock)
        self.logins = Logins(self.clock)
        self.requests: list[Seen] = []
        """The log of all requests, oldest first."""
        self.unexpected: list[str] = []
        """What the fake itself did wrong: errors of handlers, and answers that the API cannot give."""
        self.lock = threading.RLock()
        """Held while a handler runs: the rules of the services need no locks of their own."""
        self._handlers: dict[str, Handler] = {}
        self._faults: list[_Fault] = []
        self._server = _Server(("127.0.0.1", 0), _Request)
        self._server.fake = self
        for service in ("aiplatform", "run", "artifactregistry", "serviceusage"):
            for one in documents.methods(service):
                if one.id.endswith(".operations.get"):
                    self.handle(one.id, _get_operation)
        self.services = tuple(make(self) for make in services)

    def handle(self, method_id: str, handler: Handler) -> None:
        """Have a method of an API answered, by its id in the discovery document.

        :raises LookupError: the API has no such method
        """
        self._handlers[documents.method(method_id).id] = handler

    def service(self, kind: type[Any]) -> Any:
        """Return the service that was made of a class."""
        return next(one for one in self.services if isinstance(one, kind))

    def fail(self, method_id: str, what: "str | int | Refused", *, times: int = 1) -> None:
        """Have the next calls of a method go wrong.

        :param method_id: of the discovery document, or ``*``
        :param what: a status or ``Refused`` instead of the answer; LOST_ANSWER: the call happens and the connection
            closes; CUT: it happens and half of the answer arrives; NOT_DONE: the connection closes before it happens
        """
        if method_id != "*":
            documents.method(method_id)
        with self.lock:
            self._faults.append(_Fault(method_id, times, what))

    def calls(self, method_id: str) -> list[Seen]:
        """Return the requests of one method, oldest first."""
        with self.lock:
            return [one for one in self.requests if one.method == method_id]

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def endpoints(self) -> dict[str, str]:
        """Return the bases of all services, as ``api_endpoints`` of a connection has them."""
        return {service: f"{self.url}/{service}{urlsplit(base).path}" for service, base in ENDPOINTS.items()}

    def connection(self, *, project: str = "p1", **more: Any) -> GoogleConnection:
        """Return a connection to it, without a login unless ``more`` says otherwise."""
        fields = {"conn_id": "modelway_google", "source": Source.ANONYMOUS, **more}
        return GoogleConnection(project=project, endpoints=self.endpoints(), **fields)

    def airflow_connection(self, *, project: str = "p1", **extra: Any) -> str:
        """Return the JSON of an Airflow connection to it: the value of ``AIRFLOW_CONN_MODELWAY_GOOGLE``.

        :param extra: fields of the extra; without a key the connection is anonymous
        """
        login = {} if {"key_path", "keyfile_dict"} & extra.keys() else {"is_anonymous": True}
        fields = {"project": project, "api_endpoints": json.dumps(self.endpoints()), **login, **extra}
        return json.dumps({"conn_type": "google_cloud_platform", "extra": fields})

    def key(self, account: str = "modelway@p1.iam.gserviceaccount.com") -> dict[str, Any]:
        """Return a service account's key that it gives tokens for."""
        return self.logins.key(account, token_uri=f"{self.url}/token")

    def start(self) -> "GoogleFake":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "GoogleFake":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert not self.unexpected, self.unexpected

    # What the requests of the port do.

    def fault(self, method_id: str) -> "str | int | Refused | None":
        with self.lock:
            found = next((one for one in self._faults if one.method in ("*", method_id) and one.times > 0), None)
            if found is None:
                return None
            found.times -= 1
            return found.what

    def answer(self, call: Call) -> Mapping[str, Any]:
        """Answer a call whose form is right.

        :raises Refused: as the service refuses it
        """
        handler = self._handlers.get(call.method.id)
        if handler is None:
            raise Refused(501, f"The fake has no {call.method.id}.")
        with self.lock:
            self.operations.settle()
            try:
                answer = dict(handler(call))
                call.method.check_answer(answer)
            except documents.Invalid as error:
                raise Refused(400, str(error)) from error
        return answer


def _get_operation(call: Call) -> Mapping[str, Any]:
    found = call.fake.operations.get(call.names["name"])
    if found is None:
        raise Refused(404, f"Operation not found: {call.names['name']}")
    return found


class _Server(ThreadingHTTPServer):
    fake: GoogleFake
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless a caller was killed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Closed(Exception):
    """The connection is closed without an answer."""


class _Request(BaseHTTPRequestHandler):
    """One connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    # An answer is two writes; without this the second waits for the other side.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        fake = self.server.fake
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service, _, path = parts.path.lstrip("/").partition("/")
        if service not in documents.FILES or service not in ENDPOINTS:
            status, document = fake.logins.answer(service, path, content, dict(self.headers))
            self._send(status, document, {})
            return
        query: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            # A parameter that is there several times is a list.
            query[name] = f"{query[name]},{value}" if name in query else value
        seen = Seen("", f"{service}/{path}", query, None, headers=dict(self.headers))
        with fake.lock:
            fake.requests.append(seen)
        cut, headers = False, {}
        try:
            document, cut = self._call(seen, service, unquote(path), query, content)
            seen.status = 200
        except Refused as error:
            seen.status, document, headers = error.status, error.document, error.headers
        except _Closed:
            self.close_connection = True
            return
        except Exception as error:
            # A fault of the fake, which its end reports.
            fake.unexpected.append(f"{seen.method or seen.path}: {type(error).__name__}: {error}")
            seen.status, document = 500, Refused(500, str(error)).document
        self._send(seen.status, document, headers, cut=cut)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _call(self, seen: Seen, service: str, path: str, query: dict[str, str], content: bytes) -> tuple[Any, bool]:
        fake = self.server.fake
        found = documents.match(service, self.command, path)
        if found is None:
            raise Refused(404, f"{self.command} {path} is no method of {service}")
        method, names = found
        seen.method = method.id
        fault = fake.fault(method.id)
        if isinstance(fault, Refused):
            raise fault
        if isinstance(fault, int):
            raise Refused(fault, f"The fake was made to answer {fault}.")
        if fault == NOT_DONE:
            raise _Closed
        account = fake.logins.account_of(self.headers.get("Authorization", ""), Refused)
        try:
            method.check_query(query)
            seen.body = json.loads(content) if content else None
            body = method.check_body(seen.body)
        except documents.Invalid as error:
            raise Refused(400, str(error)) from error
        except ValueError as error:
            raise Refused(400, "Invalid JSON payload received.") from error
        answer = fake.answer(Call(fake, method, names, query, body, account))
        if fault == LOST_ANSWER:
            raise _Closed
        return answer, fault == CUT

    def _send(self, status: int, document: Any, headers: Mapping[str, str], *, cut: bool = False) -> None:
        content = json.dumps(document, indent=2).encode()
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string(self.server.fake.clock.now()))
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: Any) -> None:
        pass
