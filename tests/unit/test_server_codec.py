"""Bodies of infer requests and answers."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import DATATYPES, Signature, TensorSpec
from modelway.server.rest.codec import JSON_LENGTH, Inference, decode, encode


def signature(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature("m", "onnxruntime_onnx", (TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),))


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    return json.dumps({"inputs": [{name: value for name, value in tensor.items() if value is not None}]}).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [1.0, 2, 3, 4.0]])
def test_data_may_be_flat_or_nested(data: list[Any]) -> None:
    array = decode(body(shape=[2, 2], data=data), None, signature()).inputs["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2], [3, 4]]


def test_id_is_optional_and_comes_back() -> None:
    assert decode(body(), None, signature()).id is None
    named = decode(json.dumps({"id": "a", **json.loads(body())}).encode(), None, signature())
    outputs = {"y": np.zeros((1, 2), dtype=np.float32)}
    assert json.loads(encode(named, outputs, name="m", version="3").body)["id"] == "a"
    anonymous = Inference(None, {}, named.outputs)
    assert "id" not in json.loads(encode(anonymous, outputs, name="m", version="3").body)


SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "BYTES": ["Zürich", ""],
    "BF16": [-0.5, 1024.0],
    **{f"UINT{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": [-0.5, 1024.0] for bits in (16, 32, 64)},
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_each_datatype_survives_json_and_binary(datatype: str) -> None:
    model, values = signature(datatype), SAMPLES[datatype]
    array = decode(body(datatype=datatype, data=values), None, model).inputs["x"]
    assert array.dtype == DATATYPES[datatype]
    assert array.tolist() == [values]
    text = encode(Inference(None, {}, ((model.outputs[0], False),)), {"y": array}, name="m", version="1")
    assert json.loads(text.body)["outputs"][0]["data"] == values

    answer = encode(Inference(None, {}, ((model.outputs[0], True),)), {"y": array}, name="m", version="1")
    length = int(answer.headers[JSON_LENGTH])
    block = answer.body[length:]
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(block)}
    head = body(datatype=datatype, data=None, parameters={"binary_data_size": len(block)})
    again = decode(head + block, str(len(head)), model).inputs["x"]
    assert again.tolist() == array.tolist()


def test_strings_are_prefixed_with_their_length_in_binary() -> None:
    model = signature("BYTES", (2,))
    answer = encode(
        Inference(None, {}, ((model.outputs[0], True),)),
        {"y": np.array(["a", "bc"], dtype=object)},
        name="m",
        version="1",
    )
    assert answer.body.endswith(struct.pack("<I", 1) + b"a" + struct.pack("<I", 2) + b"bc")


@pytest.mark.parametrize(
    ("request_flag", "output_flag", "binary"),
    [(True, None, True), (True, False, False), (None, True, True), (None, None, False)],
)
def test_binary_outputs_are_asked_for_per_request_or_per_output(
    request_flag: bool | None, output_flag: bool | None, binary: bool
) -> None:
    document = json.loads(body())
    if request_flag is not None:
        document["parameters"] = {"binary_data_output": request_flag}
    document["outputs"] = [
        {"name": "y"} if output_flag is None else {"name": "y", "parameters": {"binary_data": output_flag}}
    ]
    assert decode(json.dumps(document).encode(), None, signature()).outputs == ((signature().outputs[0], binary),)


@pytest.mark.parametrize("rows", [1, 5000])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_what_json_has_no_number_for_is_null_or_a_word(kind: str, rows: int) -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, 0.5]] * rows, dtype=kind)
    wanted = Inference(None, {}, ((signature().outputs[0], False),))
    found = json.loads(encode(wanted, {"y": values}, name="m", version="1").body)["outputs"][0]["data"]
    assert found == [None, "Infinity", "-Infinity", 0.5] * rows
    # as clients do
    assert np.array_equal(np.array(found, dtype=kind).reshape(-1, 2), values, equal_nan=True)


@pytest.mark.parametrize(
    "data",
    [
        b'[null, "Infinity", "-Infinity", 1]',
        b'["NaN", "Infinity", "-Infinity", 1.0]',
        b"[NaN, Infinity, -Infinity, 1]",
        b"[[NaN, Infinity], [-Infinity, 1]]",
    ],
)
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_what_clients_write_for_what_json_has_no_number_for_is_read(data: bytes, datatype: str) -> None:
    content = body(shape=[2, 2], datatype=datatype, data=["DATA"]).replace(b'["DATA"]', data)
    array = decode(content, None, signature(datatype)).inputs["x"]
    assert np.array_equal(array, [[np.nan, np.inf], [-np.inf, 1]], equal_nan=True)


@pytest.mark.parametrize("value", ["infinity", "nan", "1", {}, True])
def test_other_words_are_no_numbers(value: object) -> None:
    with pytest.raises(Refusal, match="FP32 data must be numbers"):
        decode(body(data=["NaN", value]), None, signature())


def test_null_is_not_a_number_of_a_whole_number() -> None:
    with pytest.raises(Refusal, match="INT64 data must be whole numbers"):
        decode(body(datatype="INT64", data=[None, 1]), None, signature("INT64"))


def test_no_rows_as_kserve_sends_them() -> None:
    for more in ({}, {"parameters": {"binary_data_size": 0}}):
        entry = {"name": "x", "datatype": "FP32", "shape": [0, 2], "data": None, **more}
        array = decode(json.dumps({"inputs": [entry]}).encode(), None, signature()).inputs["x"]
        assert (array.shape, array.dtype) == ((0, 2), np.float32)


def test_long_strings_for_numbers_take_no_memory() -> None:
    """numpy would make each of 3,000 values as wide as the longest: 2 GB."""
    content = body(shape=[3000, 1], data=["x" * 200_000, *[1] * 2999])
    tracemalloc.start()
    with pytest.raises(Refusal, match="FP32 data must be numbers"):
        decode(content, None, signature(shape=(-1, 1)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"[NaN," + b"[" * 100_000])
def test_deeply_nested_json_is_refused(content: bytes) -> None:
    with pytest.raises(Refusal, match="is not JSON"):
        decode(content, None, signature())


def test_lengths_that_the_program_has_one_name_for_are_equal() -> None:
    inputs = tuple(
        TensorSpec(name, "INT64", (-1, -1), symbols)
        for name, symbols in (("a", ("batch", None)), ("b", ("batch", "m")))
    )
    model = Signature("m", "onnxruntime_onnx", inputs, ())

    def request(first: list[int], second: list[int]) -> bytes:
        shapes = {"a": first, "b": second}
        entries = [
            {"name": name, "datatype": "INT64", "shape": shape, "data": [1] * (shape[0] * shape[1])}
            for name, shape in shapes.items()
        ]
        return json.dumps({"inputs": entries}).encode()

    assert decode(request([3, 1], [3, 2]), None, model, max_rows=3).inputs["b"].shape == (3, 2)
    with pytest.raises(Refusal, match="inputs 'a' and 'b' differ in length: 3 and 1 where the model has one 'batch'"):
        decode(request([3, 1], [1, 2]), None, model)
    with pytest.raises(Refusal, match="3 rows in one request, the limit is 2") as refused:
        decode(request([3, 1], [3, 2]), None, model, max_rows=2)
    assert refused.value.status == 413


def test_lengths_of_other_names_are_no_rows() -> None:
    """Nodes and edges of a graph, values and offsets of bags."""
    inputs = (TensorSpec("nodes", "FP32", (-1,), ("n",)), TensorSpec("edges", "FP32", (-1,), ("e",)))
    model = Signature("m", "onnxruntime_onnx", inputs, ())
    entries = [
        {"name": name, "datatype": "FP32", "shape": [size], "data": [1] * size}
        for name, size in (("nodes", 3), ("edges", 5))
    ]
    assert decode(json.dumps({"inputs": entries}).encode(), None, model, max_rows=1).inputs["edges"].shape == (5,)


def test_a_length_that_is_not_the_batch_is_no_number_of_rows() -> None:
    """A recording of many samples."""
    model = Signature("m", "onnxruntime_onnx", (TensorSpec("wave", "FP32", (-1,), ("samples",)),), ())
    entry = {"name": "wave", "datatype": "FP32", "shape": [5], "data": [1] * 5}
    assert decode(json.dumps({"inputs": [entry]}).encode(), None, model, max_rows=1).inputs["wave"].shape == (5,)


def test_classification_is_refused() -> None:
    document = {**json.loads(body()), "outputs": [{"name": "y", "parameters": {"classification": 2}}]}
    with pytest.raises(Refusal, match="classification extension"):
        decode(json.dumps(document).encode(), None, signature())


def test_more_outputs_than_there_are_is_refused() -> None:
    document = {**json.loads(body()), "outputs": [{"name": "y"}] * 2}
    with pytest.raises(Refusal, match="outputs has 2 entries"):
        decode(json.dumps(document).encode(), None, signature())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the body is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", r"inputs must be a list of tensors: 'x' \(FP32 \[-1, 2\]\)"),
        (b'{"inputs": []}', "missing from inputs: 'x'"),
        (b'{"inputs": ["x"]}', r"^'x' in inputs must be an object with the name of one, such as .*: 'x' \(FP32"),
        (b'{"outputs": ["y"], ' + body()[1:], "^'y' in outputs must be an object with the name of one"),
        (b'{"id": 5, "inputs": []}', "id must be a string"),
        (b'{"parameters": 5, "inputs": []}', None),
        (body(name="z"), r"'z' is not an input of this model, expected 'x' \(FP32 \[-1, 2\]\)"),
        (body(datatype="INT64"), "datatype 'INT64', expected 'FP32'"),
        (body(shape=[1, 3]), r"shape \[1, 3\] does not fit, expected \[-1, 2\]"),
        (body(shape=[2]), r"shape \[2\] does not fit"),
        (body(shape=[-1, 2]), "must be a list of whole numbers"),
        (body(shape=[True, 2]), "must be a list of whole numbers"),
        (body(shape="1,2"), "must be a list of whole numbers"),
        (body(data=[1]), r"data holds 1 values .*shape \[1, 2\] needs 2"),
        (body(data=[[1], [2]]), r"nested as a list of 2 where shape \[1, 2\] needs 2"),
        (body(data=[[1, 2, 3]]), "nested unevenly"),
        (body(shape=[2, 2], data=[[1, 2], [3]]), "nested unevenly"),
        (body(data=[[1, [2]]]), r"nested unevenly or deeper where shape \[1, 2\] needs 2"),
        (body(data=[1, [2]]), "nested unevenly or deeper"),
        (body(data=["NaN", [1]]), "nested unevenly or deeper"),
        (body(shape=[0, 2**63], data=[]), "must be a list of whole numbers"),
        (body(shape=[0, 2], data=[[]]), "nested as a list of 1"),
        (body(datatype="BF16"), "datatype 'BF16', expected 'FP32'"),
        (body(name="x" * 10_000), r"^'x{10,60}\.\.\.x{10,60}' is not an input"),
        (body(data=["1", "2"]), "FP32 data must be numbers"),
        (body(data=[True, False]), "FP32 data must be numbers"),
        (body(data=[1e300, 1]), "out of the range of FP32"),
        (body(data=None), "data must be a list"),
        (body(parameters={"binary_data_size": 8}), "exclude one another"),
        (body(data=None, parameters={"binary_data_size": 8}), "0 bytes are left"),
        (body(data=None, parameters={"binary_data_size": -1}), "binary_data_size is -1"),
        (body(parameters=[]), None),
    ],
)
def test_bad_bodies_are_refused_with_what_is_expected(content: bytes, message: str | None) -> None:
    if message is None:
        message = "must be an object|missing from inputs"
    with pytest.raises(Refusal, match=message) as refused:
        decode(content, None, signature())
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("INT8", [1, 128], "out of the range of INT8"),
        ("UINT8", [-1, 1], "out of the range of UINT8"),
        ("INT64", [1.5, 2], "INT64 data must be whole numbers, within its range and written without a point"),
        ("UINT64", [2**64, 1], "UINT64 data must be whole numbers, within its range"),
        ("INT64", ["1", 2], "INT64 data must be whole numbers$"),
        ("INT64", [2**63, 1], "out of the range of INT64"),
        ("BOOL", [0, 1], "BOOL data must be true or false"),
        ("BYTES", [1, 2], "BYTES data must be strings"),
        ("FP16", [70000, 1], "out of the range of FP16"),
    ],
)
def test_values_of_another_type_are_refused(datatype: str, data: list[Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        decode(body(datatype=datatype, data=data), None, signature(datatype))


@pytest.mark.parametrize(
    ("datatype", "block", "message"),
    [
        ("FP32", b"\0" * 7, "7 bytes of binary data, FP32 of shape .* needs 8"),
        ("BOOL", b"\0\2", "bytes of 0 and 1"),
        ("BYTES", b"\1\0\0\0a", "1 strings, shape"),
        ("BYTES", b"\1\0", "ends inside a length"),
        ("BYTES", b"\5\0\0\0a", "ends inside a string"),
        ("BYTES", b"\1\0\0\0\xff\0\0\0\0", "must be UTF-8"),
    ],
)
def test_bad_binary_blocks_are_refused(datatype: str, block: bytes, message: str) -> None:
    head = body(datatype=datatype, data=None, parameters={"binary_data_size": len(block)})
    with pytest.raises(Refusal, match=message):
        decode(head + block, str(len(head)), signature(datatype))


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(Refusal, match="3 bytes follow the last tensor"):
        decode(body() + b"abc", str(len(body())), signature())


@pytest.mark.parametrize("length", ["-1", "x", "99999", "²", "9" * 5000])
def test_bad_json_length_is_refused(length: str) -> None:
    with pytest.raises(Refusal, match=JSON_LENGTH):
        decode(body(), length, signature())
