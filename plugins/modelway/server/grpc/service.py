"""The methods of the service: Open Inference Protocol v2 and gRPC's own health protocol."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Protocol

from modelway.server.core.aside import AT_ONCE, aside
from modelway.server.core.batcher import Batcher, Outputs
from modelway.server.core.predictions import Observer
from modelway.server.core.refusal import Refusal, refusal_of
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array
from modelway.server.core.validity import Validity
from modelway.server.grpc import messages, protobuf
from modelway.server.grpc.call import Call
from modelway.server.grpc.codec import Inference, Limits, Names, decode
from modelway.server.grpc.status import CallRefusal, Code

_ROOT = b"/inference.GRPCInferenceService/"
INFER = _ROOT + b"ModelInfer"
_HEALTH = b"/grpc.health.v1.Health/Check"
#: names that the health protocol knows, besides that of the whole server
_SERVICES = ("", "inference.GRPCInferenceService")
#: values of its HealthCheckResponse
_SERVING, _NOT_SERVING = 1, 2
#: bytes of a message of any other method
_SMALL = 64 << 10


class Answering(Protocol):
    """Where an answer goes: the connection of the call."""

    def respond(self, call: Call, parts: list[bytes]) -> None:
        """Send the parts of a message."""

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """Say why there is none."""


class Service:
    """The methods of one model version."""

    def __init__(
        self,
        *,
        names: Names,
        server_version: str,
        signature: Signature,
        batcher: Batcher,
        codec: Executor,
        ready: Callable[[], bool],
        limits: Limits,
        validity: Validity,
        max_seconds: float,
        observer: Observer | None = None,
    ) -> None:
        """Combine the parts.

        :param codec: one thread that decodes and encodes what is too large for the event loop
        :param ready: whether the server answers requests
        :param validity: gets the outputs of each answer
        :param max_seconds: seconds that a call may wait for the model
        :param observer: sees the requests with their answers
        """
        self._observer, self._validity = observer, validity
        self._names, self._signature, self._batcher, self._codec = names, signature, batcher, codec
        self._ready, self._limits, self._max_seconds = ready, limits, max_seconds
        self._responses = messages.InferResponses(name=names.model, version=names.version)
        self._server_metadata = messages.server_metadata("modelway", server_version, ())
        self._model_metadata = messages.model_metadata(names.model, names.version, signature)
        self._methods: Mapping[bytes, Callable[[memoryview], bytes]] = {
            _ROOT + b"ServerLive": lambda message: messages.flag(True),
            _ROOT + b"ServerReady": lambda message: messages.flag(self._ready()),
            _ROOT + b"ServerMetadata": lambda message: self._server_metadata,
            _ROOT + b"ModelReady": self._model_ready,
            _ROOT + b"ModelMetadata": self._model,
            _HEALTH: self._health,
        }

    def limit(self, path: bytes) -> int:
        """Return the bytes that a message of a method may have.

        :raises Refusal: UNIMPLEMENTED for a method that there is not
        """
        if path == INFER:
            return self._limits.message
        if path not in self._methods:
            text = f"there is no method {path[:200].decode('utf-8', 'replace')} here"
            raise CallRefusal(Code.UNIMPLEMENTED, text, status=404)
        return _SMALL

    def answer(self, call: Call, connection: Answering) -> None:
        """Answer a complete call, at once or later."""
        try:
            if call.path != INFER:
                connection.respond(call, [self._methods[call.path](call.message())])
            elif call.size <= AT_ONCE and not call.compressed:
                self._submit(call, self._decode(call)[1], connection)
            else:
                self._start(call, self._answer_large(call, connection), connection)
        except Exception as error:
            connection.refuse(call, _refusal(error))

    def _submit(self, call: Call, inference: Inference, connection: Answering) -> None:
        def done(outputs: Outputs | Exception) -> None:
            try:
                if isinstance(outputs, Exception):
                    raise outputs
                if self._observer is not None:
                    self._observer.offer(inference.id or None, inference.inputs, outputs)
                found = [(spec, outputs[spec.name]) for spec in inference.outputs]
                if call.size + sum(array.nbytes for _, array in found) > AT_ONCE:
                    work = self._answer_with_large(call, inference.id, found, connection)
                    return self._start(call, work, connection)
                self._validity.check(found)
                parts = self._responses.write(inference.id, found)
            except Exception as error:
                return connection.refuse(call, _refusal(error))
            connection.respond(call, parts)

        until = time.monotonic() + self._max_seconds
        call.work = self._batcher.submit(inference.inputs, done, until=until)

    async def _answer_large(self, call: Call, connection: Answering) -> None:
        call.size, inference = await aside(self._codec, self._decode, call)
        _need(call, call.size)
        self._submit(call, inference, connection)

    async def _answer_with_large(
        self, call: Call, identity: str, outputs: list[tuple[TensorSpec, Array]], connection: Answering
    ) -> None:
        # the arrays, and the message of them
        _need(call, call.size + 2 * sum(array.nbytes for _, array in outputs))
        connection.respond(call, await aside(self._codec, self._write, identity, outputs))

    def _start(self, call: Call, work: Coroutine[None, None, None], connection: Answering) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                connection.refuse(call, _refusal(error))

        call.work = asyncio.get_running_loop().create_task(guarded())

    def _decode(self, call: Call) -> tuple[int, Inference]:
        """Return a request and the bytes that it holds; runs in the codec thread where it is large."""
        message = call.message()
        inference = decode(message, self._names, self._signature, self._limits)
        return len(message) + sum(array.nbytes for array in inference.inputs.values()), inference

    def _write(self, identity: str, outputs: list[tuple[TensorSpec, Array]]) -> list[bytes]:
        self._validity.check(outputs)
        return [b"".join(self._responses.write(identity, outputs))]

    def _model_ready(self, message: memoryview) -> bytes:
        self._names.check(*messages.read_names(message))
        return messages.flag(self._ready())

    def _model(self, message: memoryview) -> bytes:
        self._names.check(*messages.read_names(message))
        return self._model_metadata

    def _health(self, message: memoryview) -> bytes:
        service, _ = messages.read_names(message)
        if service not in _SERVICES:
            raise Refusal(404, f"there is no service {service[:200]!r} here")
        return protobuf.number_field(1, _SERVING if self._ready() else _NOT_SERVING)


def _refusal(error: Exception) -> Refusal:
    """Return why a call failed."""
    if isinstance(error, protobuf.Malformed):
        return Refusal(400, f"the message is malformed: {error}")
    return refusal_of(error)


def _need(call: Call, size: int) -> None:
    assert call.share is not None
    call.share.need(size)
