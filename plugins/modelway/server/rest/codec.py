"""Bodies of infer: Open Inference Protocol v2 (REST) with Triton's binary tensor data extension.

Formats: the protocol's ``required_api`` page and Triton's ``extension_binary_data`` page.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from modelway.server.core.lengths import check_lengths, listed
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import (
    Array,
    check_shape,
    from_binary,
    from_json,
    short,
    to_binary,
    to_json,
    to_json_with_infinities,
)
from modelway.server.rest.instances import input_entries, predictions

#: header that says how many bytes of the body are JSON; binary blocks follow in the order of the tensors
JSON_LENGTH = "inference-header-content-length"

Body = bytes | bytearray | memoryview
#: name of an input to its entry in the body and its shape
_Shapes = dict[str, tuple[Mapping[str, Any], tuple[int, ...]]]


class Inference(NamedTuple):
    """One decoded request."""

    id: str | None
    inputs: Mapping[str, Array]
    #: requested outputs in order, each with whether it is requested as binary
    outputs: tuple[tuple[TensorSpec, bool], ...]
    #: whether the answer has Vertex AI's form
    predictions: bool = False


class Answer(NamedTuple):
    """One encoded answer."""

    body: bytes
    headers: Mapping[str, str]


def decode(
    body: Body, json_length: str | None, signature: Signature, *, max_rows: int | None = None, instances: bool = False
) -> Inference:
    """Return the request in ``body``.

    :param json_length: value of the header :data:`JSON_LENGTH`, when there is one
    :param max_rows: rows of one request, at most, where its inputs have rows
    :param instances: whether it may have Vertex AI's form
    :raises Refusal: 400, which says what was expected; 413 for more rows than ``max_rows``
    """
    document, blocks = _split(body, json_length)
    as_predictions = instances and "instances" in document
    if as_predictions:
        document = {"inputs": input_entries(document["instances"], signature)}
    identity = document.get("id")
    if identity is not None and not (
        isinstance(identity, str) and identity == identity.encode(errors="replace").decode()
    ):
        raise Refusal(400, "id must be a string, or left out")
    parameters = _parameters(document, "request")
    binary = _flag("request", "binary_data_output", parameters)
    outputs = _outputs(document.get("outputs"), binary, signature)
    shapes = _shapes(document.get("inputs"), signature)
    check_lengths(signature, {name: shape for name, (_, shape) in shapes.items()}, max_rows)
    known = signature.known_inputs
    inputs = {name: _input(entry, known[name], shape, blocks) for name, (entry, shape) in shapes.items()}
    blocks.end()
    return Inference(identity or None, inputs, outputs, as_predictions)


def encode(inference: Inference, arrays: Mapping[str, Array], *, name: str, version: str) -> Answer:
    """Return the answer to ``inference`` with the outputs that it requested."""
    if inference.predictions:
        return Answer(predictions(arrays), {"content-type": "application/json"})
    text, blocks = _document(inference, arrays, name, version, to_json)
    if b"null" in text:
        # orjson writes null for the infinities, too
        text, blocks = _document(inference, arrays, name, version, to_json_with_infinities)
    if not blocks:
        return Answer(text, {"content-type": "application/json"})
    headers = {"content-type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    return Answer(b"".join((text, *blocks)), headers)


def whole(text: str) -> int | None:
    """Return a header's value as a number; None when it is not a valid length."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _document(
    inference: Inference,
    arrays: Mapping[str, Array],
    name: str,
    version: str,
    data: Callable[[Array], object],
) -> tuple[bytes, list[bytes]]:
    entries: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    for spec, binary in inference.outputs:
        array = arrays[spec.name]
        entry: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        if binary:
            blocks.append(to_binary(spec, array))
            entry["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            entry["data"] = data(array)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": entries}
    if inference.id is not None:
        document["id"] = inference.id
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), blocks


class _Blocks:
    """The binary part of a body, consumed from the front."""

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, name: str, size: object) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self._rest):
            raise Refusal(
                400, f"input '{name}': binary_data_size is {short(size)}, {len(self._rest)} bytes are left in the body"
            )
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def end(self) -> None:
        if len(self._rest):
            raise Refusal(400, f"{len(self._rest)} bytes follow the last tensor")


#: of a body that is JSON alone; nothing can be taken from it
_NO_BLOCKS = _Blocks(memoryview(b""))


def _split(body: Body, json_length: str | None) -> tuple[dict[str, Any], _Blocks]:
    if json_length is None:
        document, blocks = _parsed(body, whole=True), _NO_BLOCKS
    else:
        declared = whole(json_length)
        if declared is None or declared > len(body):
            raise Refusal(
                400,
                f"{JSON_LENGTH} is {short(json_length)}, the body has {len(body)} bytes; leave the header out when "
                "the whole body is JSON (Triton's client writes it into the headers that it is given)",
            )
        view = memoryview(body)
        document = _parsed(view[:declared], whole=declared == len(body))
        blocks = _Blocks(view[declared:])
    if not isinstance(document, dict):
        raise Refusal(400, 'the body must be a JSON object: {"inputs": [...]}')
    return document, blocks


def _parsed(text: Body, *, whole: bool) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Triton's client writes bare NaN, Infinity and -Infinity, which are not JSON; the json module reads them
        raw = bytes(text)
        if b"NaN" in raw or b"Infinity" in raw:
            try:
                return json.loads(raw)
            except (ValueError, RecursionError):
                pass
        part = "the body" if whole else f"the first part of the body, {len(text)} bytes by {JSON_LENGTH},"
        raise Refusal(400, f"{part} is not JSON: {error}") from error


def _shapes(entries: object, signature: Signature) -> _Shapes:
    """Return each input's entry with its shape, in the order of the body."""
    if not isinstance(entries, list):
        raise Refusal(400, f"inputs must be a list of tensors: {listed(signature.inputs)}")
    known = signature.known_inputs
    shapes: _Shapes = {}
    for entry in entries:
        spec = _named(entry, known, "input")
        if spec.name in shapes:
            raise Refusal(400, f"input '{spec.name}' is given twice")
        if entry.get("datatype") != spec.datatype:
            found = short(entry.get("datatype"))
            raise Refusal(400, f"input '{spec.name}': datatype {found}, expected '{spec.datatype}'")
        shapes[spec.name] = (entry, check_shape(spec, entry.get("shape")))
    if len(shapes) < len(known):
        missing = [spec for spec in signature.inputs if spec.name not in shapes]
        raise Refusal(400, f"missing from inputs: {listed(missing)}")
    return shapes


def _input(entry: Mapping[str, Any], spec: TensorSpec, shape: tuple[int, ...], blocks: _Blocks) -> Array:
    parameters = _parameters(entry, "input", spec.name)
    data = entry.get("data")
    if "binary_data_size" not in parameters:
        # what KServe's client sends for no rows
        empty = data is None and "data" in entry and not math.prod(shape)
        return from_json(spec, shape, [] if empty else data)
    # KServe's client sends null beside binary data
    if data is not None:
        raise Refusal(400, f"input '{spec.name}': data and binary_data_size exclude one another")
    return from_binary(spec, shape, blocks.take(spec.name, parameters["binary_data_size"]))


def _outputs(entries: object, binary: bool, signature: Signature) -> tuple[tuple[TensorSpec, bool], ...]:
    if entries is None or entries == []:
        return signature.all_outputs[binary]
    if not isinstance(entries, list):
        raise Refusal(400, f"outputs must be a list, or left out: {listed(signature.outputs)}")
    if len(entries) > len(signature.outputs):
        raise Refusal(400, f"outputs has {len(entries)} entries, the model has {listed(signature.outputs)}")
    known = {spec.name: spec for spec in signature.outputs}
    wanted: dict[str, tuple[TensorSpec, bool]] = {}
    for entry in entries:
        spec = _named(entry, known, "output")
        where = f"output '{spec.name}'"
        parameters = _parameters(entry, "output", spec.name)
        if "classification" in parameters:
            raise Refusal(
                400,
                f"{where}: the classification extension (class_count in Triton's client) is not offered, "
                "request the tensor and rank it on your side",
            )
        wanted[spec.name] = (spec, _flag(where, "binary_data", parameters, otherwise=binary))
    return tuple(wanted.values())


def _named(entry: object, known: Mapping[str, TensorSpec], kind: str) -> TensorSpec:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        form = 'an object with the name of one, such as {"name": ...}'
        raise Refusal(400, f"{short(entry)} in {kind}s must be {form}: {listed(known.values())}")
    if name not in known:
        raise Refusal(400, f"{short(name)} is not an {kind} of this model, expected {listed(known.values())}")
    return known[name]


def _parameters(entry: Mapping[str, Any], kind: str, name: str = "") -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return _NO_PARAMETERS
    if not isinstance(parameters, dict):
        raise Refusal(400, f"{kind} '{name}'".removesuffix(" ''") + ": parameters must be an object")
    return parameters


_NO_PARAMETERS: Mapping[str, Any] = {}


def _flag(where: str, name: str, parameters: Mapping[str, Any], *, otherwise: bool = False) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise Refusal(400, f"{where}: {name} must be true or false")
    return value
