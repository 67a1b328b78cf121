"""A request as it arrives, and the answer to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from modelway.server.core.batcher import Waiting
from modelway.server.core.budget import FREE, Share
from modelway.server.core.refusal import Refusal

JSON = b"content-type: application/json\r\n"


class Request:
    """The head of a request, and as much of its body as has arrived."""

    __slots__ = (
        "began",
        "complete",
        "counted",
        "expects_continue",
        "headers",
        "keep_alive",
        "limit",
        "method",
        "parts",
        "patient",
        "refusal",
        "route",
        "share",
        "size",
        "target",
        "too_large",
        "waiting",
    )

    def __init__(self, method: str, target: bytes, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        """Start with the head; names in ``headers`` are in lower case."""
        self.method, self.target, self.headers, self.keep_alive = method, target, headers, keep_alive
        self.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        #: bytes of the body, in parts; nothing where nobody wants it
        self.parts: list[bytes] = []
        self.size = 0
        #: bytes of the body that are accepted, and the refusal of more; None: the body is discarded
        self.limit: int | None = None
        self.too_large: Refusal | None = None
        #: the memory that it holds
        self.share: Share | None = None
        self.complete = False
        #: why it is refused, known before its turn to be answered
        self.refusal: Refusal | None = None
        #: whether the refusal waits for the end of the body, so that the connection can be used again
        self.patient = False
        #: set by the application: what answers it, and when it began
        self.route: Route | None = None
        self.began = 0.0
        #: its place in the model's queue, where it has one
        self.waiting: Waiting | None = None
        #: whether the drain waits for it
        self.counted = False

    def add(self, part: bytes) -> None:
        """Receive a part of the body; one that is too much refuses the request."""
        self.size += len(part)
        if self.limit is None or self.refusal is not None:
            self.patient &= self.size <= FREE
            return
        try:
            if self.size > self.limit:
                assert self.too_large is not None
                raise self.too_large
            if self.size > FREE and self.share is not None:
                self.share.need(self.size)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        if self.parts and len(self.parts[-1]) + len(part) <= FREE:
            # many small parts take more memory than their bytes
            self.parts[-1] += part
        else:
            self.parts.append(part)

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


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; length, date, version and connection are added when it is sent."""

    status: int
    body: bytes
    #: complete lines
    headers: bytes = JSON
    #: whether the connection can be used no more
    close: bool = False


Respond = Callable[[Response], None]
#: answers a complete request, at once or later, by calling ``Respond`` once
Answering = Callable[[Request, Respond], None]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers the requests of one path."""

    answer: Answering
    methods: tuple[str, ...] = ("GET", "HEAD")
    #: names of model and version in the path; None: none is in it
    model: str | None = None
    version: str | None = None


def json_response(document: Any, status: int = 200) -> Response:
    """Return an answer with a JSON document."""
    return Response(status, orjson.dumps(document))


def refusal_response(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that says why a request is refused."""
    lines = {**refusal.headers, **(headers or {})}
    close = lines.pop("connection", None) == "close"
    text = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
    return Response(refusal.status, orjson.dumps({"error": str(refusal)}), JSON + text, close)
