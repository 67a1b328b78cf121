"""The protocol's messages: requests read from bytes, answers written to bytes.

The numbers of the fields are those of the public schema (package ``inference``, ``open_inference_grpc.proto``), which
Triton's ``grpc_service.proto`` shares.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array, to_binary
from modelway.server.grpc import protobuf
from modelway.server.grpc.protobuf import LENGTH, VARINT, Reader

#: lengths of one shape, as :func:`modelway.server.core.tensors.check_shape` limits them
_DIMENSIONS = 64
#: kind of a parameter's value by its field
_BOOL, _INT64, _STRING = 1, 2, 3

Parameter = bool | int | str | None


@dataclass(slots=True)
class InputTensor:
    """One input as it came."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list)
    #: number of the field in InferTensorContents to its values, in the order of the message
    contents: dict[int, list[memoryview]] = field(default_factory=dict)


@dataclass(slots=True)
class InferRequest:
    """A ModelInferRequest."""

    model: str = ""
    version: str = ""
    id: str = ""
    inputs: list[InputTensor] = field(default_factory=list)
    #: name of each requested output, and its parameters
    outputs: list[tuple[str, dict[str, Parameter]]] = field(default_factory=list)
    raw: list[memoryview] = field(default_factory=list)


def read_names(message: memoryview) -> tuple[str, str]:
    """Return name and version of a ModelReadyRequest or ModelMetadataRequest.

    :raises Malformed: for bytes that are no such message
    """
    found = {1: "", 2: ""}
    for number, kind, value in Reader(max_fields=100).fields(message):
        if number in found and kind == LENGTH:
            found[number] = protobuf.text(value)
    return found[1], found[2]


def read_infer_request(message: memoryview, *, max_fields: int) -> InferRequest:
    """Return a ModelInferRequest whose tensors refer to the bytes of ``message``.

    :raises Malformed: for bytes that are no such message
    """
    reader = Reader(max_fields=max_fields)
    request = InferRequest()
    for number, kind, value in reader.fields(message):
        if kind != LENGTH:
            # a number that is not known, since all that are known have a length
            continue
        if number == 1:
            request.model = protobuf.text(value)
        elif number == 2:
            request.version = protobuf.text(value)
        elif number == 3:
            request.id = protobuf.text(value)
        elif number == 4:
            _read_parameter(reader, value)
        elif number == 5:
            request.inputs.append(_read_input(reader, value))
        elif number == 6:
            request.outputs.append(_read_output(reader, value))
        elif number == 7:
            request.raw.append(value)
    return request


def _read_input(reader: Reader, message: memoryview) -> InputTensor:
    tensor = InputTensor()
    for number, kind, value in reader.fields(message):
        if number == 3 and kind in (LENGTH, VARINT):
            # packed, or each by itself: protobuf reads both
            tensor.shape += protobuf.numbers(value, most=_DIMENSIONS + 1 - len(tensor.shape))
        elif kind != LENGTH:
            continue
        elif number == 1:
            tensor.name = protobuf.text(value)
        elif number == 2:
            tensor.datatype = protobuf.text(value)
        elif number == 4:
            _read_parameter(reader, value)
        elif number == 5:
            for content, _, values in reader.fields(value):
                tensor.contents.setdefault(content, []).append(values)
    return tensor


def _read_output(reader: Reader, message: memoryview) -> tuple[str, dict[str, Parameter]]:
    name, parameters = "", {}
    for number, kind, value in reader.fields(message):
        if kind != LENGTH:
            continue
        if number == 1:
            name = protobuf.text(value)
        elif number == 2:
            key, parameter = _read_parameter(reader, value)
            parameters[key] = parameter
    return name, parameters


def _read_parameter(reader: Reader, message: memoryview) -> tuple[str, Parameter]:
    """Return one entry of a map of parameters; a value of a kind that is not known is None."""
    key = ""
    found: Parameter = None
    for number, kind, value in reader.fields(message):
        if kind != LENGTH:
            continue
        if number == 1:
            key = protobuf.text(value)
        elif number == 2:
            for choice, _, content in reader.fields(value):
                found = _parameter(choice, content)
    return key, found


def _parameter(choice: int, content: memoryview) -> Parameter:
    if choice == _STRING:
        return protobuf.text(content)
    if choice not in (_BOOL, _INT64):
        return None
    number = protobuf.signed(protobuf.varint(content, 0)[0])
    return bool(number) if choice == _BOOL else number


def flag(value: bool) -> bytes:
    """Return a ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return protobuf.number_field(1, value)


def server_metadata(name: str, version: str, extensions: Iterable[str]) -> bytes:
    """Return a ServerMetadataResponse."""
    return b"".join(
        (protobuf.text_field(1, name), protobuf.text_field(2, version), protobuf.texts_field(3, extensions))
    )


def model_metadata(name: str, version: str, signature: Signature) -> bytes:
    """Return a ModelMetadataResponse."""
    sides = ((4, signature.inputs), (5, signature.outputs))
    tensors = [protobuf.bytes_field(number, _tensor(spec, spec.shape)) for number, specs in sides for spec in specs]
    names = (protobuf.text_field(1, name), protobuf.texts_field(2, [version]))
    return b"".join((*names, protobuf.text_field(3, signature.platform), *tensors))


class InferResponses:
    """Writes the ModelInferResponses of one model version.

    All outputs are raw bytes: Triton's client reads no other form, and FP16 and BF16 have none.
    """

    def __init__(self, *, name: str, version: str) -> None:
        """Set the names that each response has."""
        self._names = protobuf.text_field(1, name) + protobuf.text_field(2, version)

    def write(self, identity: str, outputs: Iterable[tuple[TensorSpec, Array]]) -> list[bytes]:
        """Return the parts of a response with these outputs, in their order."""
        parts = [self._names, protobuf.text_field(3, identity)]
        contents: list[bytes] = []
        for spec, array in outputs:
            parts.append(protobuf.bytes_field(5, _tensor(spec, array.shape)))
            raw = to_binary(spec, array)
            contents += (protobuf.head(6, len(raw)), raw)
        return parts + contents


def _tensor(spec: TensorSpec, shape: Iterable[int]) -> bytes:
    """Name, datatype and shape, which have the same numbers in metadata and in outputs."""
    names = protobuf.text_field(1, spec.name) + protobuf.text_field(2, spec.datatype)
    return names + protobuf.numbers_field(3, tuple(shape))
