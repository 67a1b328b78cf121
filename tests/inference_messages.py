"""The messages of the Open Inference Protocol's gRPC as protobuf's own library knows them, and a client without stubs.

They are described here by hand, in a pool of their own: the library is the judge of what the server reads and writes,
and tests/clients compare both with the stubs of KServe and Triton.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message


class HasGrpcPort(Protocol):
    """A server that is asked over gRPC."""

    @property
    def grpc_port(self) -> int: ...


SERVICE = "/inference.GRPCInferenceService/"
_PARAMETERS = "map:InferParameter"
_TENSOR = {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64*")}
_NAMES = {"name": (1, "string"), "version": (2, "string")}
#: message to field to its number and type; * is a list
SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _NAMES,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**_NAMES, "extensions": (3, "string*")},
    "ModelMetadataRequest": _NAMES,
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "string*"),
        "platform": (3, "string"),
        "inputs": (4, "TensorMetadata*"),
        "outputs": (5, "TensorMetadata*"),
    },
    "InferParameter": {"bool_param": (1, "bool"), "int64_param": (2, "int64"), "string_param": (3, "string")},
    "InferTensorContents": {
        "bool_contents": (1, "bool*"),
        "int_contents": (2, "int32*"),
        "int64_contents": (3, "int64*"),
        "uint_contents": (4, "uint32*"),
        "uint64_contents": (5, "uint64*"),
        "fp32_contents": (6, "float*"),
        "fp64_contents": (7, "double*"),
        "bytes_contents": (8, "bytes*"),
    },
    "InferInputTensor": {**_TENSOR, "parameters": (4, _PARAMETERS), "contents": (5, "InferTensorContents")},
    "InferOutputTensor": {**_TENSOR, "parameters": (4, _PARAMETERS), "contents": (5, "InferTensorContents")},
    "InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, _PARAMETERS)},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, _PARAMETERS),
        "inputs": (5, "InferInputTensor*"),
        "outputs": (6, "InferRequestedOutputTensor*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, _PARAMETERS),
        "outputs": (5, "InferOutputTensor*"),
        "raw_output_contents": (6, "bytes*"),
    },
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int64")},
}
_FIELD = descriptor_pb2.FieldDescriptorProto


def _describe() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="inference_of_tests.proto", package="inference", syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind == _PARAMETERS:
                entry = f"{field.capitalize()}Entry"
                nested = message.nested_type.add(name=entry)
                nested.options.map_entry = True
                _add(nested, "key", 1, "string")
                _add(nested, "value", 2, "InferParameter")
                kind = f"{name}.{entry}*"
            _add(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in SCHEMA}


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    plain = kind.removesuffix("*")
    label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if plain[0].islower():
        field.type = getattr(_FIELD, f"TYPE_{plain.upper()}")
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".inference.{plain}"


_CLASSES = _describe()


def message(kind: str, **fields: Any) -> Any:
    """Return a message of protobuf's library."""
    return _CLASSES[kind](**fields)


def parsed(kind: str, content: bytes) -> Any:
    """Return the message in these bytes."""
    found: Message = _CLASSES[kind]()
    found.ParseFromString(content)
    return found


class Client:
    """Calls the methods of a server, over one connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def send(self, method: str, content: bytes, **options: Any) -> bytes:
        """Send the bytes of a message, and return those of the answer."""
        path = method if method.startswith("/") else SERVICE + method
        answer: bytes = self._channel.unary_unary(path)(content, **{"timeout": 30, **options})
        return answer

    def call(self, method: str, **fields: Any) -> Any:
        """Send a request of a method with these fields, and return its response."""
        content = message(f"{method}Request", **fields).SerializeToString()
        return parsed(f"{method}Response", self.send(method, content))

    def start(self, content: bytes) -> Any:
        """Start an infer call and return its future."""
        return self._channel.unary_unary(SERVICE + "ModelInfer").future(content, timeout=30, wait_for_ready=True)


@contextmanager
def connected(server: HasGrpcPort, *, host: str = "127.0.0.1") -> Iterator[Client]:
    """A client on a connection of its own, which takes answers of any size."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"{host}:{server.grpc_port}", options=options) as channel:
        yield Client(channel)
