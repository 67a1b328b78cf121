"""The reader and writer of gRPC's messages, compared with protobuf's own library."""

import math
import random
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import DATATYPES, Signature, TensorSpec
from modelway.server.grpc import messages, protobuf
from modelway.server.grpc.call import PREFIX, Call
from modelway.server.grpc.codec import Limits, Names, decode
from modelway.server.grpc.framing import PlainEncoder, RememberingDecoder
from modelway.server.grpc.status import trailers

from tests.inference_messages import message, parsed

LIMITS = Limits(message=1 << 20, contents=1 << 16, fields=4096, rows=100)
#: field of the typed contents of each datatype; FP16 has none
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def signature(datatype: str, shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature("m", "onnxruntime_onnx", (TensorSpec("x", datatype, shape),), (TensorSpec("y", "FP32", (-1, 2)),))


def read(request: Any, datatype: str, *, limits: Limits = LIMITS) -> Any:
    content = request if isinstance(request, bytes) else request.SerializeToString()
    return decode(memoryview(content), Names("m", "1"), signature(datatype), limits).inputs["x"]


def typed(datatype: str, values: list[Any], *, field: str | None = None, shape: tuple[int, ...] | None = None) -> Any:
    """A request with these values in two columns, as typed contents."""
    contents = message("InferTensorContents", **{field or FIELDS[datatype]: values})
    shape = (len(values) // 2, 2) if shape is None else shape
    tensor = message("InferInputTensor", name="x", datatype=datatype, shape=shape, contents=contents)
    return message("ModelInferRequest", model_name="m", inputs=[tensor])


def values_of(datatype: str) -> list[Any]:
    dtype = DATATYPES[datatype]
    if datatype == "BOOL":
        return [True, False, False, True]
    if datatype == "BYTES":
        return [b"", b"a", "ä €".encode(), b"x" * 300]
    if dtype.kind == "f":
        ends = np.finfo(dtype)
        return [float(ends.min), -0.0, float(ends.max), float(ends.smallest_subnormal), math.inf, 0.5]
    limits = np.iinfo(dtype)
    return [int(limits.min), int(limits.max), 0, 1, 100, int(limits.max) // 3]


@pytest.mark.parametrize("datatype", list(FIELDS))
def test_typed_contents_of_every_datatype(datatype: str) -> None:
    values = values_of(datatype)
    array = read(typed(datatype, values), datatype)
    expected = [each.decode() for each in values] if datatype == "BYTES" else values
    assert array.dtype == DATATYPES[datatype]
    assert array.ravel().tolist() == np.array(expected, dtype=array.dtype).tolist()


@pytest.mark.parametrize("datatype", list(DATATYPES))
def test_raw_contents_of_every_datatype(datatype: str) -> None:
    # Zeros are the same in BF16, whose values have two bytes on the wire only.
    array = np.zeros((2, 2), dtype="<u2" if datatype == "BF16" else DATATYPES[datatype])
    raw = b"\x01\x00\x00\x00a" * 4 if datatype == "BYTES" else array.tobytes()
    tensor = message("InferInputTensor", name="x", datatype=datatype, shape=[2, 2])
    found = read(message("ModelInferRequest", model_name="m", inputs=[tensor], raw_input_contents=[raw]), datatype)
    assert found.tolist() == ([["a", "a"]] * 2 if datatype == "BYTES" else array.tolist())


def test_many_varints_are_those_that_protobuf_reads() -> None:
    """More than one step of decoding, of every length."""
    chance = random.Random(0)
    values = [chance.randrange(1 << chance.randint(1, 64)) for _ in range(60_000)]
    content = message("InferTensorContents", uint64_contents=values).SerializeToString()
    (block,) = [value for _, _, value in protobuf.Reader(max_fields=10).fields(memoryview(content))]
    assert protobuf.count(block) == len(values)
    steps = list(protobuf.varints(block))
    assert len(steps) > 1
    assert np.concatenate(steps).tolist() == values


def test_lists_that_are_not_packed_or_come_in_parts_are_read() -> None:
    """Protobuf's readers take both, and join the parts of a message that comes twice."""
    head = messages.protobuf.text_field(1, "x") + messages.protobuf.text_field(2, "INT32")
    shape = b"\x18\x02\x18\x02"
    contents = b"\x10\x05\x12\x02\x06\x07"
    tensor = head + shape + protobuf.bytes_field(5, contents) + protobuf.bytes_field(5, b"\x10\x08")
    content = protobuf.text_field(1, "m") + protobuf.bytes_field(5, tensor)
    judge = parsed("ModelInferRequest", content).inputs[0]
    assert (list(judge.shape), list(judge.contents.int_contents)) == ([2, 2], [5, 6, 7, 8])
    assert read(content, "INT32").tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("datatype", "request_", "text"),
    [
        ("INT8", typed("INT8", [1, 128]), "a value is out of the range of INT8"),
        ("INT16", typed("INT16", [-32769, 1]), "a value is out of the range of INT16"),
        ("UINT8", typed("UINT8", [1, 256]), "a value is out of the range of UINT8"),
        ("FP16", typed("FP16", [1.0, 2.0], field="fp32_contents"), "FP16 has no typed contents, send it in raw"),
        ("FP32", typed("FP32", [1, 2], field="int_contents"), "FP32 belongs into fp32_contents, not int_contents"),
        ("FP32", typed("FP32", [1.0, 2.0], shape=(2, 2)), r"2 values where shape \[2, 2\] needs 4"),
        ("INT64", typed("INT64", [1, 2, 3], shape=(1, 2)), r"3 values where shape \[1, 2\] needs 2"),
        ("BYTES", typed("BYTES", [b"a"], shape=(1, 2)), r"1 values where shape \[1, 2\] needs 2"),
        ("BYTES", typed("BYTES", [b"a", b"\xff"]), "BYTES data must be UTF-8"),
        (
            "FP64",
            typed("FP64", [0.5] * 20_000, shape=(1, 2)),
            "typed contents are larger than the limit of 65536 bytes",
        ),
        ("FP32", typed("FP32", [0.5] * 202), "101 rows in one request, the limit is 100"),
        ("FP32", typed("FP32", [0.5], shape=(-1, 2)), "shape must be a list of whole numbers"),
        ("BYTES", typed("BYTES", [b""] * 5000, shape=(1, 2)), "it has more than 4096 fields"),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused(datatype: str, request_: Any, text: str) -> None:
    known = signature(datatype)
    known = Signature(known.name, known.platform, known.inputs, known.outputs, rows_are_independent=True)
    with pytest.raises(Refusal, match=text):
        decode(memoryview(request_.SerializeToString()), Names("m", "1"), known, LIMITS)


@pytest.mark.parametrize(
    ("raw", "contents", "text"),
    [
        ([bytes(16), bytes(16)], {}, "raw_input_contents has 2 entries for 1 inputs"),
        ([bytes(16)], {"fp32_contents": [1.0]}, "contents and raw_input_contents exclude one another"),
    ],
)
def test_raw_contents_that_do_not_fit_are_refused(raw: list[bytes], contents: dict[str, Any], text: str) -> None:
    known = {"contents": message("InferTensorContents", **contents)} if contents else {}
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=[2, 2], **known)
    request = message("ModelInferRequest", model_name="m", inputs=[tensor], raw_input_contents=raw)
    with pytest.raises(Refusal, match=text):
        read(request, "FP32")


def test_what_the_reader_accepts_protobuf_accepts() -> None:
    """Messages with changed bytes: refused in one way, or read as the library reads them."""
    parameters = {"a": message("InferParameter", bool_param=True), "b": message("InferParameter", string_param="s")}
    request = typed("FP32", [1.0, 2.0])
    request.MergeFrom(message("ModelInferRequest", id="7", model_version="1", parameters=parameters))
    request.outputs.add(name="y")
    content = request.SerializeToString()
    chance = random.Random(1)
    read_right = 0
    for _ in range(1500):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 2)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            found = messages.read_infer_request(memoryview(bytes(changed)), max_fields=1000)
        except protobuf.Malformed:
            continue
        try:
            judge = parsed("ModelInferRequest", bytes(changed))
        except DecodeError:
            # the library looks into parts that nobody here needs
            continue
        assert (found.model, found.version, found.id) == (judge.model_name, judge.model_version, judge.id)
        assert [(each.name, each.datatype, each.shape) for each in found.inputs] == [
            (each.name, each.datatype, list(each.shape)) for each in judge.inputs
        ]
        assert [name for name, _ in found.outputs] == [each.name for each in judge.outputs]
        read_right += 1
    assert read_right > 300


def test_parameters_are_read() -> None:
    kinds = {
        "classification": message("InferParameter", int64_param=-3),
        "flag": message("InferParameter", bool_param=True),
        "word": message("InferParameter", string_param="s"),
    }
    request = message("ModelInferRequest")
    request.outputs.add(name="y")
    for name, value in kinds.items():
        request.outputs[0].parameters[name].CopyFrom(value)
    found = messages.read_infer_request(memoryview(request.SerializeToString()), max_fields=100)
    assert found.outputs == [("y", {"classification": -3, "flag": True, "word": "s"})]


def test_responses_are_those_of_protobuf() -> None:
    writer = messages.InferResponses(name="m", version="7")
    spec = TensorSpec("y", "FP32", (-1, 300))
    array = np.ones((2, 300), dtype=np.float32)
    response = parsed("ModelInferResponse", b"".join(writer.write("é", [(spec, array), (spec, array[:0])])))
    assert (response.model_name, response.model_version, response.id) == ("m", "7", "é")
    assert [list(each.shape) for each in response.outputs] == [[2, 300], [0, 300]]
    assert list(response.raw_output_contents) == [array.tobytes(), b""]
    metadata = parsed("ModelMetadataResponse", messages.model_metadata("m", "7", signature("BYTES", ())))
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("x", "BYTES", [])]
    assert [list(each.shape) for each in metadata.outputs] == [[-1, 2]]


def test_headers_are_those_of_hpack() -> None:
    """Blocks of a client that refers to what it sent before, and changes it; and our own."""
    from hpack import Decoder, Encoder

    chance = random.Random(2)
    client, server, judge = Encoder(), RememberingDecoder(), Decoder()
    for at in range(300):
        headers = [(b":path", b"/a"), (b"te", b"trailers")] * chance.randint(0, 2)
        if at % 7 == 0:
            headers.append((b"x-%d" % chance.randrange(9), b"y" * chance.randrange(900)))
        if at == 150:
            client.header_table_size = 100
        block = client.encode(headers)
        assert list(server.decode(block, raw=True)) == list(judge.decode(block, raw=True))
    block = client.encode([(b":path", b"/a"), (b"te", b"trailers")])
    assert server.decode(block, raw=True) is server.decode(block, raw=True)
    answers, reader = PlainEncoder(), Decoder()
    for value in (b"", b"x" * 126, b"x" * 127, b"x" * 400, b"x" * 40_000, b""):
        assert list(reader.decode(answers.encode([(b"grpc-message", value)]), raw=True)) == [(b"grpc-message", value)]


def test_a_message_of_an_error_is_printable_and_short() -> None:
    found = dict(trailers(Refusal(400, "100 % of ä\n" + "x" * 5000)))
    assert found[b"grpc-status"] == b"3"
    assert found[b"grpc-message"].startswith(b"100 %25 of %C3%A4%0A")
    assert len(found[b"grpc-message"]) <= 2000


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"1S", 1), (b"250m", 0.25), (b"2H", 7200), (b"x", math.inf), (b"1", math.inf)]
)
def test_timeouts_are_read(value: bytes, seconds: float) -> None:
    call = Call(1, [(b":path", b"/a"), (b"grpc-timeout", value)])
    assert call.until - call.began == pytest.approx(seconds) or seconds == call.until


def test_a_message_comes_in_parts() -> None:
    call = Call(1, [])
    call.limit = PREFIX + 300_000
    content = b"\0" + (200_000).to_bytes(4, "big") + bytes(200_000)
    for at in range(0, len(content), 7000):
        call.add(content[at : at + 7000])
    assert len(call.message()) == 200_000
    with pytest.raises(Refusal, match="the message is larger than the limit of 300000 bytes"):
        call.add(bytes(200_000))
