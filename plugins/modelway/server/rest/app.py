"""The URLs of the server: Open Inference Protocol v2 (REST), Prometheus metrics, routes that a platform configures."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple, Unpack

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from modelway.server.core.batcher import Batcher
from modelway.server.core.budget import Budget, Share
from modelway.server.core.metrics import Metrics
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature
from modelway.server.core.tensors import Array
from modelway.server.rest.bodies import Head, Limits, decompress, joined, read_body, read_head
from modelway.server.rest.codec import Answer, Inference, decode, encode, whole
from modelway.server.rest.drain import Drain
from modelway.server.rest.openapi import describe
from modelway.server.rest.translate import Translator

#: version of this server's interface, shown at /v2; increases when an answer changes its form
SERVER_VERSION = "1"
#: bytes that are decoded or encoded on the event loop, which is fastest; larger bodies go to another thread
_AT_ONCE = 64 << 10
#: bytes of an answer that are sent in one write
_PART = 256 << 10


_Found = TypeVar("_Found")
_Arguments = TypeVarTuple("_Arguments")


class _Shared(Response):
    """An answer that holds its request's share of the memory until the client has received it."""

    def __init__(self, answer: Answer, share: Share) -> None:
        super().__init__(answer.body, headers=dict(answer.headers))
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, a large one in parts, each when the connection has room for it."""
        try:
            if len(self.body) <= _PART:
                return await super().__call__(scope, receive, send)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            view = memoryview(self.body)
            for at in range(0, len(view), _PART):
                part = {"body": view[at : at + _PART], "more_body": at + _PART < len(view)}
                await send({"type": "http.response.body", **part})
        finally:
            self._share.close()


class Routes:
    """Handlers of one model version."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        signature: Signature,
        batcher: Batcher,
        metrics: Metrics,
        drain: Drain,
        translator: Translator,
        limits: Limits,
        max_rows: int,
        max_in_flight: int,
    ) -> None:
        """Combine the parts; ``max_in_flight`` is in bytes, of all requests together."""
        self._name, self._version, self._signature = name, version, signature
        self._batcher, self._metrics, self._drain, self._translator = batcher, metrics, drain, translator
        self._limits, self._max_rows, self._budget = limits, max_rows, Budget(max_in_flight)
        #: one body after another, so that only one needs memory for decoding
        self._codec = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codec")

    def application(self, *, predict_route: str | None = None, health_route: str | None = None) -> Starlette:
        """Return the ASGI application, with further paths for infer and ready when a platform configures them."""
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/metrics", self._show_metrics),
        ]
        for root in (model, version):
            routes.append(Route(root, self._model))
            routes.append(Route(f"{root}/ready", self._model_ready))
            routes.append(Route(f"{root}/infer", self._infer, methods=["POST"]))
        if predict_route is not None:
            routes.append(Route(predict_route, self._infer, methods=["POST"]))
        if health_route is not None:
            routes.append(Route(health_route, self._ready))
        document = describe(
            name=self._name,
            version=self._version,
            server_version=SERVER_VERSION,
            signature=self._signature,
            predict_route=predict_route,
            health_route=health_route,
        )

        async def openapi(request: Request) -> Response:
            return _json(document)

        routes.append(Route("/openapi.json", openapi))
        return Starlette(
            routes=routes, exception_handlers={HTTPException: _http_error, Refusal: _refused, Exception: _unexpected}
        )

    async def _server(self, request: Request) -> Response:
        return _json({"name": "modelway", "version": SERVER_VERSION, "extensions": ["binary_tensor_data"]})

    async def _live(self, request: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = not self._drain.began
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, request: Request) -> Response:
        self._check_names(request)
        ready = not self._drain.began
        return _json({"name": self._name, "ready": ready}, 200 if ready else 503)

    async def _model(self, request: Request) -> Response:
        self._check_names(request)
        return _json(
            {
                "name": self._name,
                "versions": [self._version],
                "platform": self._signature.platform,
                "inputs": [spec.document() for spec in self._signature.inputs],
                "outputs": [spec.document() for spec in self._signature.outputs],
                "parameters": self._signature.parameters(),
            }
        )

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _infer(self, request: Request) -> Response:
        began = time.perf_counter()
        code = 500
        self._metrics.in_flight.inc()
        share = self._budget.share()
        try:
            answer = await self._answer(request, share)
            code = 200
            return _Shared(answer, share)
        except Refusal as refusal:
            code = refusal.status
            raise
        except ClientDisconnect:
            # no one reads this answer; 499 is the status that gateways log for it
            code = 499
            return Response(status_code=400)
        finally:
            if code != 200:
                share.close()
            self._metrics.in_flight.dec()
            self._metrics.count(code, time.perf_counter() - began)

    async def _answer(self, request: Request, share: Share) -> Answer:
        self._check_names(request)
        head = read_head(request, self._limits)
        parts = await read_body(request, head, self._limits, share)
        size = sum(map(len, parts))
        if head.encoding is None and size <= _AT_ONCE:
            inference = decode(joined(parts), head.json_length, self._signature, max_rows=self._max_rows)
        else:
            size, inference = await self._aside(self._decode, parts, head)
            share.need(size)
        arrays = await self._batcher.infer(inference.inputs)
        size += sum(array.nbytes for array in arrays.values())
        if size <= _AT_ONCE:
            return self._encode(inference, arrays)
        share.need(size)
        answer = await self._aside(self._encode, inference, arrays)
        share.need(len(answer.body))
        return answer

    def _decode(self, parts: list[bytes], head: Head) -> tuple[int, Inference]:
        """Return a large request and its size in bytes; runs in the codec thread."""
        body, json_length = joined(parts), head.json_length
        if head.encoding is not None:
            body = decompress(body, head, self._limits)
        json_bytes = len(body) if json_length is None else whole(json_length)
        if json_bytes is not None and json_bytes > _AT_ONCE:
            body, json_length = self._translator.binary(body, json_length)
        return len(body), decode(body, json_length, self._signature, max_rows=self._max_rows)

    def _encode(self, inference: Inference, arrays: Mapping[str, Array]) -> Answer:
        return encode(inference, arrays, name=self._name, version=self._version)

    async def _aside(self, work: Callable[[Unpack[_Arguments]], _Found], *arguments: *_Arguments) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._codec, work, *arguments)

    def _check_names(self, request: Request) -> None:
        model = request.path_params.get("model", self._name)
        if model != self._name:
            raise Refusal(404, f"there is no model '{model}' here, this server has '{self._name}'")
        version = request.path_params.get("version", self._version)
        if version != self._version:
            raise Refusal(404, f"there is no version '{version}' of '{model}' here, this server has '{self._version}'")


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, "application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _json({"error": str(error)}, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return _json({"error": text}, error.status_code, dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    return _json({"error": "the server failed, see its log"}, 500)
