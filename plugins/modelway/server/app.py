"""The URLs of the server: Open Inference Protocol v2 (REST), Prometheus metrics, routes that a platform names."""

import time
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modelway.server.batcher import Batcher
from modelway.server.codec import JSON_LENGTH, decode, encode
from modelway.server.drain import Drain
from modelway.server.metrics import Metrics
from modelway.server.refusal import Refusal
from modelway.server.signature import Signature

#: version of what this server speaks, shown at /v2; rises when an answer changes its form
SERVER_VERSION = "1"


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
        max_body: int,
    ) -> None:
        """Keep the parts; ``max_body`` is in bytes."""
        self._name, self._version, self._signature = name, version, signature
        self._batcher, self._metrics, self._drain, self._max_body = batcher, metrics, drain, max_body

    def application(self, *, predict_route: str | None = None, health_route: str | None = None) -> Starlette:
        """Return the ASGI application, with further paths for infer and ready when a platform names them."""
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
            }
        )

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _infer(self, request: Request) -> Response:
        began = time.perf_counter()
        code = 500
        self._metrics.in_flight.inc()
        try:
            response = await self._answer(request)
            code = response.status_code
            return response
        except Refusal as refusal:
            code = refusal.status
            raise
        except ClientDisconnect:
            # nobody reads this answer; 499 is the status that gateways log for it
            code = 499
            return Response(status_code=400)
        finally:
            self._metrics.in_flight.dec()
            self._metrics.count(code, time.perf_counter() - began)

    async def _answer(self, request: Request) -> Response:
        self._check_names(request)
        body = await self._body(request)
        inference = decode(body, request.headers.get(JSON_LENGTH), self._signature)
        arrays = await self._batcher.infer(inference.inputs)
        answer = encode(inference, arrays, name=self._name, version=self._version)
        return Response(answer.body, headers=dict(answer.headers))

    async def _body(self, request: Request) -> bytes:
        too_large = Refusal(413, f"the body is larger than the limit of {self._max_body} bytes")
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_body:
            raise too_large
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_body:
                raise too_large
            parts.append(part)
        return b"".join(parts)

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
    # the rest of a body that was refused is not read, so the connection cannot be used again
    headers = {"connection": "close"} if error.status == 413 else None
    return _json({"error": str(error)}, error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return _json({"error": text}, error.status_code, dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    return _json({"error": "the server failed, see its log"}, 500)
