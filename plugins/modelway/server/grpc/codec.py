"""An infer request of gRPC turned into arrays, checked against the model's signature."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelway.server.core.lengths import check_lengths, listed
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array, check_shape, from_binary, short
from modelway.server.grpc import protobuf
from modelway.server.grpc.messages import InferRequest, InputTensor, Parameter, read_infer_request

#: fields of InferTensorContents, with their numbers
_CONTENTS = {
    "bool_contents": 1,
    "int_contents": 2,
    "int64_contents": 3,
    "uint_contents": 4,
    "uint64_contents": 5,
    "fp32_contents": 6,
    "fp64_contents": 7,
    "bytes_contents": 8,
}
#: the field of each datatype; FP16 and BF16 have none
_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    #: bytes of the message
    message: int
    #: bytes of its typed contents, which take up to eight times as much memory
    contents: int
    #: fields of the message, which are the strings of its typed contents, too
    fields: int
    #: rows, where the inputs have rows
    rows: int


@dataclass(frozen=True)
class Inference:
    """One decoded request."""

    id: str
    inputs: Mapping[str, Array]
    #: requested outputs in order
    outputs: Sequence[TensorSpec]


@dataclass(frozen=True)
class Names:
    """Of the model version that is served."""

    model: str
    version: str

    def check(self, model: str, version: str) -> None:
        """Compare with those of a request, whose version may be empty.

        :raises Refusal: 404
        """
        if model != self.model:
            raise Refusal(404, f"there is no model {short(model)} here, this server has '{self.model}'")
        if version not in ("", self.version):
            there = f"there is no version {short(version)} of '{model}' here"
            raise Refusal(404, f"{there}, this server has '{self.version}'")


def decode(message: memoryview, names: Names, signature: Signature, limits: Limits) -> Inference:
    """Return the request in ``message``, whose arrays may refer to its bytes.

    :raises Refusal: 400, which says what was expected; 404 for another model; 413 over a limit
    """
    try:
        request = read_infer_request(message, max_fields=limits.fields)
        names.check(request.model, request.version)
        shapes = _shapes(request.inputs, signature)
        check_lengths(signature, shapes, limits.rows)
        return Inference(request.id, _arrays(request, shapes, signature, limits), _outputs(request.outputs, signature))
    except protobuf.Malformed as error:
        raise Refusal(400, f"the message is not a ModelInferRequest: {error}") from error


def _shapes(tensors: Sequence[InputTensor], signature: Signature) -> dict[str, tuple[int, ...]]:
    known = signature.known_inputs
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in tensors:
        spec = known.get(tensor.name)
        if spec is None:
            raise _unknown(tensor.name, "input", signature.inputs)
        if spec.name in shapes:
            raise Refusal(400, f"input '{spec.name}' is given twice")
        if tensor.datatype != spec.datatype:
            raise Refusal(400, f"input '{spec.name}': datatype {short(tensor.datatype)}, expected '{spec.datatype}'")
        shapes[spec.name] = check_shape(spec, tensor.shape)
    if len(shapes) < len(known):
        missing = [spec for spec in signature.inputs if spec.name not in shapes]
        raise Refusal(400, f"missing from inputs: {listed(missing)}")
    return shapes


def _arrays(
    request: InferRequest, shapes: Mapping[str, tuple[int, ...]], signature: Signature, limits: Limits
) -> dict[str, Array]:
    known, raw = signature.known_inputs, request.raw
    if not raw:
        return {
            tensor.name: from_contents(known[tensor.name], shapes[tensor.name], tensor.contents, limits)
            for tensor in request.inputs
        }
    if len(raw) != len(request.inputs):
        raise Refusal(400, f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs")
    for tensor in request.inputs:
        if tensor.contents:
            raise Refusal(400, f"input '{tensor.name}': contents and raw_input_contents exclude one another")
    return {
        tensor.name: from_binary(known[tensor.name], shapes[tensor.name], block)
        for tensor, block in zip(request.inputs, raw, strict=True)
    }


def from_contents(
    spec: TensorSpec, shape: tuple[int, ...], contents: Mapping[int, Sequence[memoryview]], limits: Limits
) -> Array:
    """Return the array of the typed contents of an input, by their number in InferTensorContents.

    :raises Refusal: 400 for the contents of another datatype, too many or too few values, or values out of range; 413
        for more bytes than the limit
    :raises protobuf.Malformed: for bytes that are no such values
    """
    if spec.datatype not in _FIELDS:
        raise Refusal(400, f"input '{spec.name}': {spec.datatype} has no typed contents, send it in raw_input_contents")
    wanted = _CONTENTS[_FIELDS[spec.datatype]]
    if other := [name for name, number in _CONTENTS.items() if number in contents and number != wanted]:
        raise Refusal(
            400, f"input '{spec.name}': {spec.datatype} belongs into {_FIELDS[spec.datatype]}, not {other[0]}"
        )
    blocks = contents.get(wanted, ())
    if sum(map(len, blocks)) > limits.contents:
        text = f"typed contents are larger than the limit of {limits.contents} bytes, send them in raw_input_contents"
        raise Refusal(413, f"input '{spec.name}': {text}")
    needed = math.prod(shape)
    if spec.datatype == "BYTES":
        return _strings(spec, shape, blocks)
    packed = blocks[0] if len(blocks) == 1 else memoryview(b"".join(blocks))
    if spec.dtype.kind == "f":
        if len(packed) % spec.dtype.itemsize:
            raise protobuf.Malformed("a list of numbers ends inside a number")
        values = np.frombuffer(packed, dtype=spec.dtype)
    else:
        if (found := protobuf.count(packed)) != needed:
            raise _wrong_number(spec, shape, found)
        values = _whole(spec, packed, needed)
    if len(values) != needed:
        raise _wrong_number(spec, shape, len(values))
    return values.reshape(shape)


def _whole(spec: TensorSpec, packed: memoryview, needed: int) -> Array:
    """Return whole numbers or booleans out of varints."""
    values = np.empty(needed, dtype=spec.dtype)
    at = 0
    for wide in protobuf.varints(packed):
        if spec.dtype.kind == "i":
            # the bits of an int32 that is negative are those of an int64
            wide = wide.view(np.int64)
        if spec.dtype.kind != "b" and spec.dtype.itemsize < 8:
            limits = np.iinfo(spec.dtype)
            if wide.min() < limits.min or wide.max() > limits.max:
                raise Refusal(400, f"input '{spec.name}': a value is out of the range of {spec.datatype}")
        values[at : at + len(wide)] = wide
        at += len(wide)
    return values


def _strings(spec: TensorSpec, shape: tuple[int, ...], blocks: Sequence[memoryview]) -> Array:
    if len(blocks) != math.prod(shape):
        raise _wrong_number(spec, shape, len(blocks))
    array = np.empty(len(blocks), dtype=object)
    try:
        array[:] = [str(block, "utf-8") for block in blocks]
    except UnicodeDecodeError as error:
        raise Refusal(400, f"input '{spec.name}': BYTES data must be UTF-8") from error
    return array.reshape(shape)


def _outputs(requested: Sequence[tuple[str, Mapping[str, Parameter]]], signature: Signature) -> Sequence[TensorSpec]:
    if not requested:
        return signature.outputs
    if len(requested) > len(signature.outputs):
        raise Refusal(400, f"outputs has {len(requested)} entries, the model has {listed(signature.outputs)}")
    known = {spec.name: spec for spec in signature.outputs}
    wanted: dict[str, TensorSpec] = {}
    for name, parameters in requested:
        if name not in known:
            raise _unknown(name, "output", signature.outputs)
        if "classification" in parameters:
            raise Refusal(
                400,
                f"output '{name}': the classification extension (class_count in Triton's client) is not offered, "
                "request the tensor and rank it on your side",
            )
        wanted[name] = known[name]
    return tuple(wanted.values())


def _unknown(name: str, kind: str, specs: Sequence[TensorSpec]) -> Refusal:
    return Refusal(400, f"{short(name)} is not an {kind} of this model, expected {listed(specs)}")


def _wrong_number(spec: TensorSpec, shape: tuple[int, ...], found: int) -> Refusal:
    return Refusal(400, f"input '{spec.name}': {found} values where shape {list(shape)} needs {math.prod(shape)}")
