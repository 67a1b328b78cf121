"""A request as it arrives, and the answer to it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from modelway.server.core.batcher import Waiting
from modelway.server.core.budget import FREE, Budget, Share
from modelway.server.core.refusal import Refusal
from modelway.server.rest.bodies import BodyForm

JSON = b"content-type: application/json\r\n"


class Head:
    """The head of a request, with what the application found out from it; the same for all requests that have it."""

    __slots__ = (
        "body_length",
        "budget",
        "expects_continue",
        "form",
        "headers",
        "keep_alive",
        "limit",
        "method",
        "route",
        "target",
        "too_large",
    )

    def __init__(self, method: str, target: bytes, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        """Keep what was read; names in ``headers`` are in lower case."""
        self.method, self.target, self.headers, self.keep_alive = method, target, headers, keep_alive
        self.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        #: bytes of the body by its header; None: they are not known
        self.body_length: int | None = None
        if b"transfer-encoding" not in headers and (length := headers.get(b"content-length")) is not None:
            self.body_length = int(length)
        #: what answers it
        self.route: Route | None = None
        #: how the body is encoded
        self.form: BodyForm | None = None
        #: bytes of the body that are accepted; None: the body is discarded
        self.limit: int | None = None
        #: returns the refusal of more
        self.too_large: Callable[[], Refusal] | None = None
        #: the memory for bodies
        self.budget: Budget | None = None


class Request:
    """A request, and as much of its body as has arrived."""

    __slots__ = (
        "alone",
        "began",
        "complete",
        "continues",
        "counted",
        "head",
        "parts",
        "patient",
        "refusal",
        "share",
        "size",
        "waiting",
    )

    def __init__(self, head: Head) -> None:
        """Start with the head."""
        self.head = head
        #: bytes of the body, in parts; nothing where nobody wants it
        self.parts: list[bytes] = []
        self.size = 0
        #: the memory that it holds
        self.share: Share | None = None
        self.complete = False
        #: whether the client still waits for a sign to send the body
        self.continues = head.expects_continue
        #: why it is refused, known before its turn to be answered
        self.refusal: Refusal | None = None
        #: whether the refusal waits for the end of the body, so that the connection can be used again
        self.patient = False
        #: when the application began to count it; 0: it does not
        self.began = 0.0
        #: its place in the model's queue, where it has one
        self.waiting: Waiting | None = None
        #: whether the drain waits for it
        self.counted = False
        #: whether no other client is connected, nor a further request of this one has come
        self.alone = False

    def add(self, part: bytes) -> None:
        """Receive a part of the body; one that is too much refuses the request."""
        self.size += len(part)
        limit = self.head.limit
        if limit is None or self.refusal is not None:
            self.patient &= self.size <= FREE
            return
        try:
            if self.size > limit:
                assert self.head.too_large is not None
                raise self.head.too_large()
            self.need(self.size)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        if self.parts and len(self.parts[-1]) + len(part) <= FREE:
            # many small parts take more memory than their bytes
            self.parts[-1] += part
        else:
            self.parts.append(part)

    def need(self, size: int) -> None:
        """Hold ``size`` bytes in total from now on.

        :raises Refusal: 429 when the others leave too little
        """
        if size > FREE and self.head.budget is not None:
            if self.share is None:
                self.share = self.head.budget.share()
            self.share.need(size)

    def refuse(self, refusal: Refusal) -> None:
        """Refuse the request, unless it is already; its body is discarded."""
        if self.refusal is None:
            self.refusal = refusal
        self.release()

    @property
    def answerable(self) -> bool:
        """Whether enough has arrived for an answer."""
        return self.complete or (self.refusal is not None and not self.patient)

    def release(self) -> None:
        """Free the memory of the body, and its place in the queue."""
        self.parts = []
        if self.waiting is not None:
            self.waiting.abandon()
        if self.share is not None:
            self.share.close()


class Response(NamedTuple):
    """One answer; length, date, version and connection are added when it is sent."""

    status: int
    body: bytes
    #: complete lines
    headers: bytes = JSON
    #: whether the connection can be used no more
    close: bool = False


Respond = Callable[[Response], None]


class Route(NamedTuple):
    """What answers the requests of one path."""

    #: answers a complete request, at once or later, by calling ``Respond`` once
    answer: Callable[[Request, Respond], None]
    methods: tuple[str, ...] = ("GET", "HEAD")
    #: names of model and version in the path; None: none is in it
    model: str | None = None
    version: str | None = None


def json_response(document: Any, status: int = 200) -> Response:
    """Return an answer with a JSON document."""
    return Response(status, orjson.dumps(document))


def refusal_response(refusal: Refusal) -> Response:
    """Return the answer that says why a request is refused."""
    lines = refusal.headers
    close = lines.pop("connection", None) == "close"
    text = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
    return Response(refusal.status, orjson.dumps({"error": str(refusal)}), JSON + text, close)
