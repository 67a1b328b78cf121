"""The statuses of gRPC, and which of them stands for each refusal."""

from enum import IntEnum

from modelway.server.core.refusal import Refusal


class Code(IntEnum):
    """Those that this server answers, with gRPC's numbers."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallRefusal(Refusal):
    """A refusal that gRPC has a status of its own for."""

    def __init__(self, code: Code, text: str, *, status: int) -> None:
        """Set gRPC's ``code``, the sentence for the client, and the HTTP ``status`` that metrics count."""
        super().__init__(status, text)
        self.code = code


#: HTTP status that gateways log for a client that waits no more
CLIENT_LEFT = 499
#: of the HTTP statuses of refusals
_CODES = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.UNIMPLEMENTED,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
}
#: bytes of a message that is sent; clients limit the size of all trailers together
_LONGEST = 2000


def code_of(refusal: Refusal) -> Code:
    """Return the status that a refusal is answered with."""
    if isinstance(refusal, CallRefusal):
        return refusal.code
    return _CODES.get(refusal.status, Code.INTERNAL)


def trailers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """Return the trailers that say why a call failed."""
    found = [(b"grpc-status", b"%d" % code_of(refusal)), (b"grpc-message", _escaped(str(refusal)))]
    if refusal.status == 429:
        # milliseconds after which a client that retries may come again
        found.append((b"grpc-retry-pushback-ms", b"1000"))
    return found


def _escaped(text: str) -> bytes:
    """Return a text as gRPC's messages are written: printable ASCII, all else as % and two digits."""
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and text.isprintable() and "%" not in text and len(raw) <= _LONGEST:
        return raw
    parts: list[bytes] = []
    size = 0
    for character in text:
        encoded = character.encode("utf-8", "replace")
        plain = 0x20 <= encoded[0] < 0x7F and encoded != b"%"
        parts.append(encoded if plain else b"".join(b"%%%02X" % byte for byte in encoded))
        size += len(parts[-1])
        if size > _LONGEST:
            parts.pop()
            break
    return b"".join(parts)
