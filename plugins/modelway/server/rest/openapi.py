"""The OpenAPI document of a server: its URLs with the names, datatypes and shapes of its own model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelway.server.core.signature import Signature, TensorSpec

Schema = dict[str, Any]

#: JSON schema of a value of each kind of numpy array (``dtype.kind``)
_VALUES: Mapping[str, Schema] = {
    "b": {"type": "boolean"},
    "i": {"type": "integer"},
    "u": {"type": "integer", "minimum": 0},
    "f": {"anyOf": [{"type": ["number", "null"]}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
    "O": {"type": "string"},
}
_TEXT: Schema = {"type": "string"}
#: statuses with which an infer request can be refused, and what they say
_REFUSALS = {
    "400": "the body or its values are wrong, as the sentence says",
    "408": "the body came too slowly",
    "413": "over a limit of one request",
    "415": "an unknown Content-Encoding",
    "429": "requests in flight hold all that they may together",
    "431": "the headers are too large",
    "500": "the model failed",
    "503": "the server is not able to answer now",
}


def describe(
    *,
    name: str,
    version: str,
    server_version: str,
    signature: Signature,
    predict_route: str | None = None,
    health_route: str | None = None,
) -> Schema:
    """Return the OpenAPI 3.1 document of the server of one model version, as JSON values.

    :param predict_route: a further path for infer
    :param health_route: a further path for ready
    """
    ready = _get("Whether the server answers requests", {"ready": _flag()}, unready=True)
    infer = {"post": _infer(signature)}
    paths: dict[str, Schema] = {
        "/v2": _get("The server", {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "/v2/health/live": _get("Whether the process runs", {"live": _flag()}),
        "/v2/health/ready": ready,
    }
    for root in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        paths[root] = _get("The model, its inputs and outputs", _metadata())
        paths[f"{root}/ready"] = _get("Whether the model answers", {"name": _TEXT, "ready": _flag()}, unready=True)
        paths[f"{root}/infer"] = infer
    if predict_route is not None:
        paths[predict_route] = infer
    if health_route is not None:
        paths[health_route] = ready
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}, version {version}",
            "version": server_version,
            "description": "Open Inference Protocol v2 with the binary tensor data extension.",
        },
        "paths": paths,
    }


def _get(summary: str, properties: Schema, *, unready: bool = False) -> Schema:
    answer = {"description": summary, "content": {"application/json": {"schema": _object(properties)}}}
    return {"get": {"summary": summary, "responses": {"200": answer, **({"503": answer} if unready else {})}}}


def _infer(signature: Signature) -> Schema:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "bytes of the body that are JSON; the binary data of tensors follows",
        "schema": {"type": "integer", "minimum": 0},
    }
    error = {"application/json": {"schema": _object({"error": _TEXT})}}
    answer = {"description": "the outputs", "content": _bodies(_response(signature))}
    return {
        "summary": "Run the model",
        "parameters": [length],
        "requestBody": {"required": True, "content": _bodies(_request(signature))},
        "responses": {
            "200": answer,
            **{status: {"description": text, "content": error} for status, text in _REFUSALS.items()},
        },
    }


def _bodies(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}, "application/octet-stream": {}}


def _request(signature: Signature) -> Schema:
    requested = {
        "type": ["array", "null"],
        "maxItems": len(signature.outputs),
        "items": _object({"name": _names(signature.outputs)}, parameters=_parameters("binary_data", _flag())),
    }
    return _object(
        {"inputs": _tensors(signature.inputs, "binary_data_size", optional=True)},
        id={"type": ["string", "null"]},
        parameters=_parameters("binary_data_output", _flag()),
        outputs=requested,
    )


def _response(signature: Signature) -> Schema:
    outputs = _tensors(signature.outputs, "binary_data_size", optional=False)
    return _object({"model_name": _TEXT, "model_version": _TEXT, "outputs": outputs}, id=_TEXT)


def _tensors(specs: Sequence[TensorSpec], size: str, *, optional: bool) -> Schema:
    """A list of tensors; of inputs all are needed, of outputs those that were requested are there."""
    schema: Schema = {"type": "array", "items": {"anyOf": [_tensor(spec, size) for spec in specs]}}
    return {**schema, "minItems": len(specs) if optional else 0, "maxItems": len(specs)}


def _tensor(spec: TensorSpec, size: str) -> Schema:
    # data may be nested as the shape says
    data = {"type": ["array", "null"], "items": {"anyOf": [_VALUES[spec.dtype.kind], {"type": "array"}]}}
    properties = {"name": {"const": spec.name}, "datatype": {"const": spec.datatype}, "shape": _shape(spec.shape)}
    return _object(properties, data=data, parameters=_parameters(size, {"type": "integer", "minimum": 0}))


def _shape(shape: Iterable[int]) -> Schema:
    lengths = [{"type": "integer", "minimum": 0} if length == -1 else {"const": length} for length in shape]
    items: Schema = {"prefixItems": lengths} if lengths else {}
    return {"type": "array", **items, "items": False, "minItems": len(lengths), "maxItems": len(lengths)}


def _names(specs: Iterable[TensorSpec]) -> Schema:
    return {"enum": [spec.name for spec in specs]}


def _metadata() -> Schema:
    tensor = _object({"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer"})})
    known = {"name": _TEXT, "versions": _list(_TEXT), "platform": _TEXT, "inputs": _list(tensor)}
    return {**known, "outputs": _list(tensor), "parameters": {"type": "object"}}


def _parameters(name: str, schema: Schema) -> Schema:
    """Parameters of a request or tensor; those that are not known are ignored."""
    return {"type": ["object", "null"], "properties": {name: schema}}


def _object(required: Schema, **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _flag() -> Schema:
    return {"type": "boolean"}
