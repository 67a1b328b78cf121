"""Bodies of infer: Open Inference Protocol v2 (REST) with Triton's binary tensor data extension.

Formats: the protocol's ``required_api`` page and Triton's ``extension_binary_data`` page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from modelway.server.refusal import Refusal
from modelway.server.signature import Signature, TensorSpec
from modelway.server.tensors import Array, check_shape, from_binary, from_json, to_binary, to_json

#: header that says how many bytes of the body are JSON; binary blocks follow in the order of the tensors
JSON_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Inference:
    """One decoded request."""

    id: str | None
    inputs: Mapping[str, Array]
    #: wanted outputs in order, each with whether it is wanted as binary
    outputs: tuple[tuple[TensorSpec, bool], ...]


@dataclass(frozen=True)
class Answer:
    """One encoded answer."""

    body: bytes
    headers: Mapping[str, str]


def decode(body: bytes, json_length: str | None, signature: Signature) -> Inference:
    """Return the request in ``body``.

    :param json_length: value of the header :data:`JSON_LENGTH`, when there is one
    :raises Refusal: 400, which says what was expected
    """
    document, blocks = _split(body, json_length)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Refusal(400, "id must be a string, or left out")
    inputs = _inputs(document.get("inputs"), blocks, signature)
    binary = _parameters(document, "request").get("binary_data_output", False)
    outputs = _outputs(document.get("outputs"), _flag("request", "binary_data_output", binary), signature)
    return Inference(identity or None, inputs, outputs)


def encode(inference: Inference, arrays: Mapping[str, Array], *, name: str, version: str) -> Answer:
    """Return the answer to ``inference`` with the outputs that it asked for."""
    entries: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    for spec, binary in inference.outputs:
        array = arrays[spec.name]
        entry: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        if binary:
            blocks.append(to_binary(array))
            entry["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            entry["data"] = to_json(array)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": entries}
    if inference.id is not None:
        document["id"] = inference.id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blocks:
        return Answer(text, {"content-type": "application/json"})
    headers = {"content-type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    return Answer(b"".join((text, *blocks)), headers)


class _Blocks:
    """The binary part of a body, handed out from its front."""

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, name: str, size: object) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self._rest):
            raise Refusal(
                400, f"input '{name}': binary_data_size is {size!r}, {len(self._rest)} bytes are left in the body"
            )
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def end(self) -> None:
        if len(self._rest):
            raise Refusal(400, f"{len(self._rest)} bytes follow the last tensor")


def _split(body: bytes, json_length: str | None) -> tuple[dict[str, Any], _Blocks]:
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit()) or int(json_length) > len(body):
            raise Refusal(400, f"{JSON_LENGTH} is {json_length!r}, the body has {len(body)} bytes")
        length = int(json_length)
    view = memoryview(body)
    try:
        document = orjson.loads(view[:length])
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(400, 'the body must be a JSON object: {"inputs": [...]}')
    return document, _Blocks(view[length:])


def _inputs(entries: object, blocks: _Blocks, signature: Signature) -> dict[str, Array]:
    if not isinstance(entries, list):
        raise Refusal(400, f"inputs must be a list of tensors: {_listed(signature.inputs)}")
    known = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, Array] = {}
    for entry in entries:
        spec = _named(entry, known, "input")
        if spec.name in arrays:
            raise Refusal(400, f"input '{spec.name}' is given twice")
        arrays[spec.name] = _input(entry, spec, blocks)
    blocks.end()
    missing = [spec for spec in signature.inputs if spec.name not in arrays]
    if missing:
        raise Refusal(400, f"missing from inputs: {_listed(missing)}")
    return arrays


def _input(entry: Mapping[str, Any], spec: TensorSpec, blocks: _Blocks) -> Array:
    if entry.get("datatype") != spec.datatype:
        raise Refusal(400, f"input '{spec.name}': datatype {entry.get('datatype')!r}, expected '{spec.datatype}'")
    shape = check_shape(spec, entry.get("shape"))
    parameters = _parameters(entry, f"input '{spec.name}'")
    if "binary_data_size" not in parameters:
        return from_json(spec, shape, entry.get("data"))
    if "data" in entry:
        raise Refusal(400, f"input '{spec.name}': data and binary_data_size exclude one another")
    return from_binary(spec, shape, blocks.take(spec.name, parameters["binary_data_size"]))


def _outputs(entries: object, binary: bool, signature: Signature) -> tuple[tuple[TensorSpec, bool], ...]:
    if entries is None or entries == []:
        return tuple((spec, binary) for spec in signature.outputs)
    if not isinstance(entries, list):
        raise Refusal(400, f"outputs must be a list, or left out: {_listed(signature.outputs)}")
    known = {spec.name: spec for spec in signature.outputs}
    wanted: dict[str, tuple[TensorSpec, bool]] = {}
    for entry in entries:
        spec = _named(entry, known, "output")
        where = f"output '{spec.name}'"
        own = _parameters(entry, where).get("binary_data", binary)
        wanted[spec.name] = (spec, _flag(where, "binary_data", own))
    return tuple(wanted.values())


def _named(entry: object, known: Mapping[str, TensorSpec], kind: str) -> TensorSpec:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in known:
        raise Refusal(400, f"{name!r} is not an {kind} of this model, expected {_listed(known.values())}")
    return known[name]


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refusal(400, f"{where}: parameters must be an object")
    return parameters or {}


def _flag(where: str, name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Refusal(400, f"{where}: {name} must be true or false")
    return value


def _listed(specs: Sequence[TensorSpec] | Any) -> str:
    return ", ".join(f"'{spec.name}' ({spec.datatype} {list(spec.shape)})" for spec in specs)
