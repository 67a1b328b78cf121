"""Builds Dockerfiles with the engine's BuildKit.

The SDK (docker 7.2) has no switch for BuildKit. The engine's API does it all the same where the context and the
Dockerfile travel as one tar archive (``POST /build?version=2``), apart from what needs a session: secrets, ssh and the
login of a registry, so that a private base is pulled before.
"""

import base64
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import IO, Any

from modelway.errors import ImageInvalid
from modelway.platforms.docker.engine import Engine, translate_errors

#: of what the last step printed, repeated in an error
LAST_LINES = 15


def build_dockerfile(
    engine: Engine,
    *,
    context: IO[bytes] | Iterable[bytes],
    tag: str,
    dockerfile: str = "Dockerfile",
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Build an image and return its id, ``sha256:…``.

    :param context: a tar archive with the Dockerfile and the files that it copies
    :param dockerfile: its path in the context
    :param arguments: values of the Dockerfile's ``ARG``
    :param report: gets the name of each step when it begins, and the lines that it prints
    :raises ImageInvalid: a step failed; the message names it and has its last lines
    :raises SubmitFailed: the engine refused the build or does not answer
    """
    params = {
        "version": "2",
        "t": tag,
        "dockerfile": dockerfile,
        "buildargs": json.dumps(dict(arguments or {})),
        "labels": json.dumps(dict(labels or {})),
    }
    api, lines = engine.api, deque[str](maxlen=LAST_LINES)
    with translate_errors():
        answer = api.post(
            f"{api.base_url}/v{api.api_version}/build",
            params=params,
            data=context,
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            timeout=None,
        )
        api._raise_for_status(answer)  # the SDK's own translation of a refusal to an APIError
        image = None
        for message in map(json.loads, filter(None, answer.iter_lines())):
            if "error" in message:
                raise _failed(str(message["error"]), dockerfile, lines)
            if message.get("id") == "moby.buildkit.trace":
                for line, begins in _trace_lines(base64.b64decode(message["aux"])):
                    if begins:
                        lines.clear()
                    lines.append(line)
                    report(line)
            elif message.get("id") == "moby.image.id":
                image = str(message["aux"]["ID"])
    if image is None:
        raise _failed("the engine ended the build without an image", dockerfile, lines)
    return image


def _failed(error: str, dockerfile: str, lines: Iterable[str]) -> ImageInvalid:
    step = list(lines)
    printed = "\n".join(step) if len(step) > 1 else ""
    return ImageInvalid(
        f"the image cannot be built: {error.strip().rstrip('.')}",
        where=dockerfile,
        do=f"Correct it; the last step printed:\n{printed}\n" if printed else "Correct the Dockerfile",
    )


def _trace_lines(data: bytes) -> Iterator[tuple[str, bool]]:
    """Yield what a ``StatusResponse`` of BuildKit's control API says: steps that begin (True), and their output."""
    status = _status_response()()
    status.ParseFromString(data)
    for vertex in status.vertexes:
        if vertex.HasField("started") and not vertex.HasField("completed"):
            yield vertex.name, True
        elif vertex.cached:
            yield f"{vertex.name} (cached)", True
    for log in status.logs:
        yield from ((line, False) for line in log.msg.decode(errors="replace").splitlines())


@cache
def _status_response() -> Any:
    """Return the class of the message, with those fields of ``moby.buildkit.v1`` that are read here."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, raw, flag, nested = 9, 12, 8, 11
    file = descriptor_pb2.FileDescriptorProto(name="modelway/buildkit_trace.proto", package="modelway.buildkit")
    for name, fields in {
        "Time": (),
        "Vertex": (
            ("name", 3, text, False, ""),
            ("cached", 4, flag, False, ""),
            ("started", 5, nested, False, "Time"),
            ("completed", 6, nested, False, "Time"),
        ),
        "VertexLog": (("msg", 4, raw, False, ""),),
        "StatusResponse": (("vertexes", 1, nested, True, "Vertex"), ("logs", 3, nested, True, "VertexLog")),
    }.items():
        described = file.message_type.add(name=name)
        for field, number, kind, repeated, of in fields:
            described.field.add(
                name=field,
                number=number,
                type=kind,
                label=3 if repeated else 1,
                type_name=f".modelway.buildkit.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("modelway.buildkit.StatusResponse"))
