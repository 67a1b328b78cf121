"""Infer: the body is decoded, run and encoded; small ones on the event loop, without a task of their own."""

import asyncio
import math
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Executor
from functools import partial

from modelway.server.core.aside import AT_ONCE, aside
from modelway.server.core.batcher import Batcher, Outputs
from modelway.server.core.budget import Budget
from modelway.server.core.predictions import Observer
from modelway.server.core.refusal import refusal_of
from modelway.server.core.signature import Signature
from modelway.server.core.tensors import Array
from modelway.server.core.validity import Validity
from modelway.server.rest.bodies import BodyForm, Limits, decompress, joined, read_form, received_limit, too_large
from modelway.server.rest.codec import JSON_LENGTH, Answer, Body, Inference, decode, encode, whole
from modelway.server.rest.message import Head, Request, Respond, Response, refusal_response
from modelway.server.rest.translate import Translator


class Infer:
    """Answers infer requests of one model version."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        signature: Signature,
        batcher: Batcher,
        translator: Translator,
        limits: Limits,
        max_rows: int,
        budget: Budget,
        codec: Executor,
        validity: Validity,
        max_seconds: float = math.inf,
        observer: Observer | None = None,
    ) -> None:
        """Combine the parts.

        :param budget: bytes of all requests together
        :param codec: one thread that decodes and encodes what is too large for the event loop
        :param validity: gets the outputs of each answer
        :param max_seconds: seconds that a request may wait for the model
        :param observer: sees the requests with their answers
        """
        self._name, self._version, self._signature = name, version, signature
        self._batcher, self._translator, self._limits = batcher, translator, limits
        self._max_rows, self._max_seconds, self._budget, self._codec = max_rows, max_seconds, budget, codec
        self._observer, self._validity = observer, validity
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self, head: Head) -> None:
        """Set how the body is read.

        :raises Refusal: 413 or 415, as the head says
        """
        head.form = form = read_form(head.headers, self._limits)
        head.limit, head.too_large = received_limit(form, self._limits), partial(too_large, form, self._limits)
        head.budget = self._budget

    def answer(self, request: Request, respond: Respond) -> None:
        """Answer a complete request of the Open Inference Protocol."""
        self._answer(request, respond, instances=False)

    def predict(self, request: Request, respond: Respond) -> None:
        """Answer a complete request of the Open Inference Protocol, or of Vertex AI's form."""
        self._answer(request, respond, instances=True)

    def _answer(self, request: Request, respond: Respond, *, instances: bool) -> None:
        form = request.head.form
        assert form is not None
        if request.size > AT_ONCE or form.encoding is not None:
            return self._start(self._answer_large(request, form, instances, respond), respond)
        try:
            inference = self._decoded(joined(request.parts), form.json_length, instances)
            self._submit(request, inference, respond)
        except Exception as error:
            respond(failure_response(error))

    def _submit(self, request: Request, inference: Inference, respond: Respond) -> None:
        def done(outputs: Outputs | Exception) -> None:
            try:
                if isinstance(outputs, Exception):
                    raise outputs
                if self._observer is not None:
                    self._observer.offer(inference.id, inference.inputs, outputs)
                if request.size + sum(array.nbytes for array in outputs.values()) > AT_ONCE:
                    return self._start(self._encode_large(request, inference, outputs, respond), respond)
                response = _response(self._encode(inference, outputs))
            except Exception as error:
                response = failure_response(error)
            respond(response)

        until = time.monotonic() + self._max_seconds
        request.waiting = self._batcher.submit(inference.inputs, done, until=until, alone=request.alone)

    async def _answer_large(self, request: Request, form: BodyForm, instances: bool, respond: Respond) -> None:
        size, inference = await aside(self._codec, self._decode, request, form, instances)
        request.need(size)
        request.size = size
        self._submit(request, inference, respond)

    async def _encode_large(self, request: Request, inference: Inference, outputs: Outputs, respond: Respond) -> None:
        request.need(request.size + sum(array.nbytes for array in outputs.values()))
        answer = await aside(self._codec, self._encode, inference, outputs)
        request.need(len(answer.body))
        respond(_response(answer))

    def _decode(self, request: Request, form: BodyForm, instances: bool) -> tuple[int, Inference]:
        """Return a large request and its size in bytes; runs in the codec thread."""
        # only now: one whose client has left has none any more
        parts, request.parts = request.parts, []
        body, json_length = joined(parts), form.json_length
        del parts
        if form.encoding is not None:
            body = decompress(body, form, self._limits)
        json_bytes = len(body) if json_length is None else whole(json_length)
        if json_bytes is not None and json_bytes > AT_ONCE:
            body, json_length, predictions = self._translator.binary(body, json_length, instances=instances)
            return len(body), self._decoded(body, json_length, False)._replace(predictions=predictions)
        return len(body), self._decoded(body, json_length, instances)

    def _decoded(self, body: Body, json_length: str | None, instances: bool) -> Inference:
        return decode(body, json_length, self._signature, max_rows=self._max_rows, instances=instances)

    def _encode(self, inference: Inference, arrays: Mapping[str, Array]) -> Answer:
        self._validity.check((spec, arrays[spec.name]) for spec, _ in inference.outputs)
        return encode(inference, arrays, name=self._name, version=self._version)

    def _start(self, work: Coroutine[None, None, None], respond: Respond) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                respond(failure_response(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def failure_response(error: Exception) -> Response:
    """Return the answer to a request that failed."""
    return refusal_response(refusal_of(error))


def _response(answer: Answer) -> Response:
    length = answer.headers.get(JSON_LENGTH)
    if length is None:
        return Response(200, answer.body)
    return Response(200, answer.body, b"content-type: application/octet-stream\r\n%b: %b\r\n" % _pair(length))


def _pair(length: str) -> tuple[bytes, bytes]:
    return JSON_LENGTH.encode(), length.encode()
