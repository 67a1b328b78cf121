"""The URLs of the server: Open Inference Protocol v2 (REST), Prometheus metrics, routes that a platform configures."""

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from modelway.server.core.metrics import Metrics
from modelway.server.core.predictions import Predictions
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature
from modelway.server.core.sketches import Sketches
from modelway.server.rest.infer import Infer
from modelway.server.rest.message import Head, Request, Respond, Response, Route, json_response
from modelway.server.rest.openapi import describe

#: version of this server's interface, shown at /v2; increases when an answer changes its form
SERVER_VERSION = "1"
_POST = ("POST",)
_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<verb>/ready|/infer|/sketches)?")
_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


class Routes:
    """Finds what answers a request for one model version, and counts the infer requests."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        signature: Signature,
        infer: Infer,
        metrics: Metrics,
        sketches: Sketches,
        predictions: Predictions,
        draining: Callable[[], bool],
        predict_route: str | None = None,
        health_route: str | None = None,
        only_post: bool = False,
    ) -> None:
        """Combine the parts, with further paths for infer and ready when a platform configures them.

        :param only_post: whether callers can send nothing but POST, so that what GET answers is answered to it, too
        """
        self._only_post = only_post
        self._name, self._version, self._signature = name, version, signature
        self._infer, self._metrics, self._draining = infer, metrics, draining
        self._sketches, self._predictions = sketches, predictions
        self._paths = {
            "/v2": Route(self._server),
            "/v2/health/live": Route(self._live),
            "/v2/health/ready": Route(self._ready),
            "/metrics": Route(self._show_metrics),
            "/openapi.json": Route(self._openapi),
        }
        self._description = json_response(
            describe(
                name=name,
                version=version,
                server_version=SERVER_VERSION,
                signature=signature,
                predict_route=predict_route,
                health_route=health_route,
            )
        )
        if predict_route is not None:
            self._paths[predict_route.removesuffix("/")] = Route(infer.predict, _POST)
        if health_route is not None:
            self._paths[health_route.removesuffix("/")] = Route(self._ready)
        self._answers = {
            None: self._model,
            "/ready": self._model_ready,
            "/infer": infer.answer,
            "/sketches": self._show_sketches,
        }

    def accept(self, request: Request) -> None:
        """Set the route of a request, and what of its body is read.

        :raises Refusal: 404, 405, 413 or 415
        """
        head = request.head
        head.route = route = self._find(head)
        if self._only_post and not self._counts(route):
            head.route = route = route._replace(methods=(*route.methods, "POST"))
        if head.method not in route.methods:
            raise _NotAllowed(head, route)
        self.begin(request)
        self._check_names(route)
        if self._counts(route):
            self._infer.prepare(head)

    def begin(self, request: Request) -> None:
        """Count a request, if it is for the model."""
        assert request.head.route is not None
        if self._counts(request.head.route):
            request.began = time.perf_counter()
            self._metrics.in_flight.inc()

    def _counts(self, route: Route) -> bool:
        return route.methods is _POST

    def finished(self, request: Request, status: int) -> None:
        """Count the answer to a request."""
        if request.began:
            self._metrics.in_flight.dec()
            self._metrics.count(status, time.perf_counter() - request.began)
            request.began = 0.0

    def _find(self, head: Head) -> Route:
        try:
            path = unquote_to_bytes(httptools.parse_url(head.target).path or b"").decode()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as error:
            raise _not_found(head) from error
        path = path.removesuffix("/")
        if path in self._paths:
            return self._paths[path]
        if found := _MODEL.fullmatch(path):
            verb = found["verb"]
            methods = _POST if verb == "/infer" else ("GET", "HEAD")
            return Route(self._answers[verb], methods, found["model"], found["version"])
        raise _not_found(head)

    def _check_names(self, route: Route) -> None:
        model, version = route.model or self._name, route.version or self._version
        if model != self._name:
            raise Refusal(404, f"there is no model '{model}' here, this server has '{self._name}'")
        if version != self._version:
            raise Refusal(404, f"there is no version '{version}' of '{model}' here, this server has '{self._version}'")

    def _server(self, request: Request, respond: Respond) -> None:
        respond(json_response({"name": "modelway", "version": SERVER_VERSION, "extensions": ["binary_tensor_data"]}))

    def _live(self, request: Request, respond: Respond) -> None:
        respond(json_response({"live": True}))

    def _ready(self, request: Request, respond: Respond) -> None:
        respond(self._readiness({}))

    def _model_ready(self, request: Request, respond: Respond) -> None:
        respond(self._readiness({"name": self._name}))

    def _readiness(self, document: dict[str, Any]) -> Response:
        ready = not self._draining()
        return json_response({**document, "ready": ready}, 200 if ready else 503)

    def _model(self, request: Request, respond: Respond) -> None:
        document = {
            "name": self._name,
            "versions": [self._version],
            "platform": self._signature.platform,
            "inputs": [spec.document() for spec in self._signature.inputs],
            "outputs": [spec.document() for spec in self._signature.outputs],
            "parameters": self._signature.parameters(),
        }
        respond(json_response(document))

    def _openapi(self, request: Request, respond: Respond) -> None:
        respond(self._description)

    def _show_metrics(self, request: Request, respond: Respond) -> None:
        respond(Response(200, self._metrics.text(), _TEXT))

    def _show_sketches(self, request: Request, respond: Respond) -> None:
        names = {"model_name": self._name, "model_version": self._version}
        counted = {**self._sketches.document(), "predictions": self._predictions.documents()}
        respond(json_response({**names, **counted}))


class _NotAllowed(Refusal):
    """A method that the path does not have."""

    def __init__(self, head: Head, route: Route) -> None:
        super().__init__(405, f"{head.method} {_shown(head)}: Method Not Allowed")
        self._allow = ", ".join(route.methods)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the answer needs besides its text."""
        return {"allow": self._allow}


def _not_found(head: Head) -> Refusal:
    return Refusal(404, f"{head.method} {_shown(head)}: Not Found")


def _shown(head: Head) -> str:
    return head.target.split(b"?", 1)[0][:200].decode("latin-1")
