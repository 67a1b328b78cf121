"""The body of an infer request: how much of it is read, and decompressed."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from modelway.server.core.refusal import Refusal
from modelway.server.rest.codec import JSON_LENGTH, whole

#: ``wbits`` of zlib for each Content-Encoding
_ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
#: bytes that are decompressed in one step
_STEP = 256 << 10
#: gzip files in one body; each costs a pass over the rest of a step
_MEMBERS = 256


@dataclass(frozen=True)
class Limits:
    """Bytes of one request."""

    #: of the body, compressed and decompressed
    body: int
    #: of its JSON part; the memory of a JSON text is many times its length
    json: int


@dataclass(frozen=True)
class BodyForm:
    """What the headers say about the body."""

    #: a key of ``_ENCODINGS``; None: not compressed
    encoding: str | None
    #: value of the header :data:`JSON_LENGTH`; None: the whole body is JSON
    json_length: str | None


_PLAIN = BodyForm(None, None)


def read_form(headers: Mapping[bytes, bytes], limits: Limits) -> BodyForm:
    """Return how the body is encoded.

    :param headers: by name in lower case
    :raises Refusal: 413 for a length over the limit, 415 for an encoding that is not known
    """
    form = _PLAIN
    if b"content-encoding" in headers or JSON_LENGTH.encode() in headers:
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if encoding not in ("", "identity") and encoding not in _ENCODINGS:
            raise Refusal(415, f"Content-Encoding {encoding[:40]!r} is not known, expected gzip, deflate or none")
        length = headers.get(JSON_LENGTH.encode())
        form = BodyForm(
            encoding if encoding in _ENCODINGS else None, None if length is None else length.decode("latin-1")
        )
    declared = headers.get(b"content-length", b"").strip()
    if declared.isdigit() and int(declared) > received_limit(form, limits):
        raise too_large(form, limits)
    if form.json_length is not None and (whole(form.json_length) or 0) > limits.json:
        raise too_large(_PLAIN, limits)
    return form


def received_limit(form: BodyForm, limits: Limits) -> int:
    """Return how many bytes of the body are read, at most."""
    return limits.body if form.encoding else _limit(form, limits)


def too_large(form: BodyForm, limits: Limits) -> Refusal:
    """Return the refusal of a larger body."""
    limit = _limit(form, limits)
    if limit == limits.body:
        return Refusal(413, f"the body is larger than the limit of {limit} bytes")
    return Refusal(413, f"the JSON is larger than the limit of {limit} bytes, send large tensors as binary data")


def joined(parts: list[bytes]) -> bytes | bytearray:
    """Return the body, emptying ``parts`` step by step; other threads run in between."""
    if len(parts) == 1:
        return parts.pop()
    body = bytearray(sum(map(len, parts)))
    at = len(body)
    while parts:
        part = parts.pop()
        body[at - len(part) : at] = part
        at -= len(part)
    return body


def decompress(body: bytes | bytearray, form: BodyForm, limits: Limits) -> bytes | bytearray:
    """Return the decompressed body; never more than the limit is in memory, whatever the body expands to.

    :raises Refusal: 400 when it is not compressed as its header says, 413 when it is longer than the limit
    """
    assert form.encoding is not None
    limit = _limit(form, limits)
    plain: list[bytes] = []
    size, members = 0, 1
    # deflate is a zlib stream by the standard, and a bare one from some clients
    bare = form.encoding == "deflate" and not _is_zlib(body)
    stream = zlib.decompressobj(wbits := -15 if bare else _ENCODINGS[form.encoding])
    try:
        for at in range(0, len(body), _STEP):
            left = bytes(body[at : at + _STEP])
            while left:
                if stream.eof:
                    # gzip files may follow one another
                    stream, members = zlib.decompressobj(wbits), members + 1
                    if members > _MEMBERS:
                        raise Refusal(400, f"the body is more than {_MEMBERS} {form.encoding} streams")
                plain.append(stream.decompress(left, min(_STEP, limit + 1 - size)))
                size += len(plain[-1])
                if size > limit:
                    raise too_large(form, limits)
                left = stream.unused_data if stream.eof else stream.unconsumed_tail
    except zlib.error as error:
        raise Refusal(400, f"the body is not {form.encoding}, as its Content-Encoding says: {error}") from error
    if not stream.eof:
        raise Refusal(400, f"the {form.encoding} body ends too early")
    return joined(plain)


def _is_zlib(body: bytes | bytearray) -> bool:
    return len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _limit(form: BodyForm, limits: Limits) -> int:
    return limits.body if form.json_length is not None else min(limits.json, limits.body)
