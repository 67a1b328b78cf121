"""The server over gRPC: its methods, how it refuses, what it shares with REST, and how it ends."""

import gzip
import json
import re
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

from tests.http2_client import Http2, framed
from tests.inference_messages import SERVICE, Client, connected, message, parsed
from tests.model_server import Server, serving, start
from tests.tiny_model import WIDTH, infer_body, write_model

MIB = 1 << 20


def request(rows: int = 1, value: float = 1.0, **fields: Any) -> Any:
    """A ModelInferRequest of rows of one value."""
    data = np.full((rows, WIDTH), value, dtype="<f4")
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=data.shape)
    return message(
        "ModelInferRequest", **{"model_name": "tiny", "inputs": [tensor], **fields}, raw_input_contents=[data.tobytes()]
    )


def doubled(answer: bytes) -> np.ndarray[Any, Any]:
    """The values of an answer."""
    response = parsed("ModelInferResponse", answer)
    (output,) = response.outputs
    assert (response.model_name, output.name, output.datatype) == ("tiny", "y", "FP32")
    return np.frombuffer(response.raw_output_contents[0], dtype="<f4").reshape(output.shape)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = write_model(folder / "model", scale=2.0)
    options = ("--version", "2", "--max-body-mib", "8", "--max-json-mib", "1", "--max-rows", "100000")
    ports = ("--port", "0", "--grpc-port", "0")
    with serving(folder, "--model-dir", str(model), *ports, *options) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connected(server) as found:
        yield found


def refused(client: Client, content: bytes, method: str = "ModelInfer", **options: Any) -> tuple[str, str]:
    """Code and message with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        client.send(method, content, **options)
    error: Any = caught.value
    return error.code().name, error.details()


def test_health_and_metadata(client: Client) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    for fields in ({"name": "tiny"}, {"name": "tiny", "version": "2"}):
        assert client.call("ModelReady", **fields).ready
        model = client.call("ModelMetadata", **fields)
        assert (model.name, list(model.versions), model.platform) == ("tiny", ["2"], "onnxruntime_onnx")
        for (tensor,), name in ((model.inputs, "x"), (model.outputs, "y")):
            assert (tensor.name, tensor.datatype, list(tensor.shape)) == (name, "FP32", [-1, WIDTH])
    known = client.call("ServerMetadata")
    assert (known.name, known.version, list(known.extensions)) == ("modelway", "1", [])


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_health_protocol_of_grpc(client: Client, service: str) -> None:
    content = message("HealthCheckRequest", service=service).SerializeToString()
    assert parsed("HealthCheckResponse", client.send("/grpc.health.v1.Health/Check", content)).status == 1
    other = message("HealthCheckRequest", service="other").SerializeToString()
    assert refused(client, other, "/grpc.health.v1.Health/Check") == ("NOT_FOUND", "there is no service 'other' here")


def test_infer_and_the_version_that_answered(server: Server, client: Client) -> None:
    assert (
        doubled(client.send("ModelInfer", request(rows=2, value=1.5).SerializeToString())).tolist()
        == [[3.0] * WIDTH] * 2
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=options) as channel:
        method = channel.unary_unary(SERVICE + "ModelInfer")
        content, call = method.with_call(request(id="seven").SerializeToString(), timeout=30)
    assert dict(call.initial_metadata())["x-model-version"] == "2"
    assert parsed("ModelInferResponse", content).id == "seven"
    assert parsed("ModelInferResponse", content).model_version == "2"


def rest_post(server: Server, document: dict[str, object]) -> int:
    with closing(server.connect()) as connection:
        connection.request("POST", "/v2/models/tiny/infer", json.dumps(document))
        return connection.getresponse().status


def test_the_port_of_rest_answers_grpc_too_on_connections_that_begin_with_http2(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=2.0)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        target, options = f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.insecure_channel(target, options=options) as one,
            grpc.insecure_channel(target, options=options) as two,
        ):
            calls = [
                channel.unary_unary(SERVICE + "ModelInfer").future(request(value=3.0).SerializeToString(), timeout=60)
                for channel in (one, two)
                for _ in range(8)
            ]
            assert rest_post(server, infer_body()) == 200
            for call in calls:
                assert doubled(call.result()).tolist() == [[6.0] * WIDTH]
            with pytest.raises(grpc.RpcError) as caught:
                one.unary_unary(SERVICE + "ModelInfer")(b"\xff", timeout=60)
            assert caught.value.code().name == "INVALID_ARGUMENT"  # type: ignore[attr-defined]
        with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
            page = answer.read().decode()
        counted = dict(
            re.findall(r'^(modelway_(?:grpc_)?requests_total\{.*code="[24]00".*\}) (.*)$', page, re.MULTILINE)
        )
        assert sorted(map(float, counted.values())) == [1, 1, 16, 17]


def test_what_follows_the_first_line_of_http2_is_no_request_of_http1(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n" * 9)
        found = b""
        while part := connection.recv(4096):
            found += part
    assert b"HTTP/1.1" not in found


def test_typed_contents(client: Client) -> None:
    tensor = message(
        "InferInputTensor",
        name="x",
        datatype="FP32",
        shape=[1, WIDTH],
        contents=message("InferTensorContents", fp32_contents=[1, -2, 0.5, float("nan")]),
    )
    answer = client.send(
        "ModelInfer", message("ModelInferRequest", model_name="tiny", inputs=[tensor]).SerializeToString()
    )
    # the model adds to each value the sum of all, times nothing
    assert np.isnan(doubled(answer)).all()


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (request(model_name="other"), "NOT_FOUND", "there is no model 'other' here, this server has 'tiny'"),
        (request(model_version="3"), "NOT_FOUND", "there is no version '3' of 'tiny' here, this server has '2'"),
        (request(inputs=[]), "INVALID_ARGUMENT", "missing from inputs: 'x' \\(FP32 \\[-1, 4\\]\\)"),
        (
            request(inputs=[message("InferInputTensor", name="x", datatype="FP64", shape=[1, 4])]),
            "INVALID_ARGUMENT",
            "input 'x': datatype 'FP64', expected 'FP32'",
        ),
        (
            request(inputs=[message("InferInputTensor", name="x", datatype="FP32", shape=[2, 4])]),
            "INVALID_ARGUMENT",
            "16 bytes of binary data, FP32 of shape \\[2, 4\\] needs 32",
        ),
        (request(rows=100_001), "RESOURCE_EXHAUSTED", "100001 rows in one request, the limit is 100000"),
        (b"\x0a\xff", "INVALID_ARGUMENT", "the message is not a ModelInferRequest: it ends inside a number"),
        (b"\x0b", "INVALID_ARGUMENT", "a field has the wire type 3"),
        (b"\x50\x00" * (100 << 10), "INVALID_ARGUMENT", "it has more than 65536 fields"),
        (bytes(9 * MIB), "RESOURCE_EXHAUSTED", "the message is larger than the limit of 8388608 bytes"),
    ],
    ids=["model", "version", "inputs", "datatype", "size", "rows", "cut off", "group", "fields", "large"],
)
def test_refusals_have_a_code_and_one_sentence(client: Client, content: Any, code: str, text: str) -> None:
    raw = content if isinstance(content, bytes) else content.SerializeToString()
    found, details = refused(client, raw)
    assert found == code
    assert re.search(text, details), details
    assert client.call("ServerLive").live


def test_answers_that_are_not_finite_are_counted_once_each(server: Server, client: Client) -> None:
    def invalid() -> float:
        text = server.ask("GET", "/metrics")[2].decode()
        return float(re.findall(r"^modelway_invalid_answers_total{.*} (\S+)$", text, re.MULTILINE)[0])

    before = invalid()
    # the second one is encoded aside of the event loop
    for rows in (1, 20_000):
        answer = client.send("ModelInfer", request(rows=rows, value=3e38).SerializeToString())
        assert not np.isfinite(doubled(answer)).any()
    assert invalid() == before + 2


def test_methods_that_there_are_not(client: Client) -> None:
    assert refused(client, b"", "RepositoryModelLoad") == (
        "UNIMPLEMENTED",
        "there is no method /inference.GRPCInferenceService/RepositoryModelLoad here",
    )
    assert refused(client, b"", "/a.B/100%ä\n")[0] == "UNIMPLEMENTED"
    assert refused(client, bytes(70_000), "ServerLive")[0] == "RESOURCE_EXHAUSTED"


def test_several_messages_in_a_unary_call_are_refused(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.stream_unary(SERVICE + "ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(iter([request().SerializeToString()] * 2), timeout=30)
        error: Any = caught.value
        assert (error.code().name, "its one message is" in error.details()) == ("UNIMPLEMENTED", True)
        with pytest.raises(grpc.RpcError) as caught:
            call(iter([]), timeout=30)
        error = caught.value
        assert error.code().name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("way", ["Gzip", "Deflate"])
def test_compressed_messages_are_read(client: Client, way: str) -> None:
    content = request(rows=500, value=0.5).SerializeToString()
    assert doubled(client.send("ModelInfer", content, compression=getattr(grpc.Compression, way))).sum() == 500 * WIDTH


@pytest.mark.parametrize(
    ("encoding", "mark", "content", "status", "text"),
    [
        ("gzip", 1, gzip.compress(bytes(20 * MIB)), "8", "larger than the limit of 8388608 bytes"),
        ("deflate", 1, zlib.compress(b"x" * 100)[:-3], "3", "the deflate message ends too early"),
        ("gzip", 1, b"plain", "3", "the message is not gzip, as grpc-encoding says"),
        ("identity", 1, b"plain", "3", "marked as compressed, and grpc-encoding does not say how"),
        ("br", 1, b"plain", "12", "grpc-encoding 'br' is not known, expected gzip or deflate"),
        ("gzip", 7, b"plain", "3", "marked as compressed"),
    ],
    ids=["bomb", "cut off", "plain", "unnamed", "unknown", "mark"],
)
def test_compression_that_cannot_be_read(
    server: Server, encoding: str, mark: int, content: bytes, status: str, text: str
) -> None:
    with Http2(server) as client:
        answer = client.call(framed(content, mark=mark), grpc_encoding=encoding)
    assert answer["grpc-status"] == status
    assert text in answer["grpc-message"]


def test_large_messages_both_ways(client: Client) -> None:
    """Several windows of HTTP/2 each."""
    answer = doubled(client.send("ModelInfer", request(rows=100_000, value=0.25).SerializeToString()))
    assert answer.shape == (100_000, WIDTH)
    assert set(answer.ravel().tolist()) == {0.5}


def test_many_clients_get_their_own_answers(server: Server) -> None:
    wrong: list[object] = []

    def one(number: int) -> None:
        with connected(server) as client:
            for at in range(30):
                value = float(number * 100 + at)
                answer = doubled(client.send("ModelInfer", request(rows=1 + at % 3, value=value).SerializeToString()))
                if answer.tolist() != [[2 * value] * WIDTH] * (1 + at % 3):
                    wrong.append(answer)

    with connected(server) as shared:
        calls = [shared.start(request(value=float(at)).SerializeToString()) for at in range(200)]
        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [doubled(call.result())[0, 0] for call in calls] == [2.0 * at for at in range(200)]
    assert wrong == []


def test_counters_are_those_of_rest(server: Server, client: Client) -> None:
    def counted(code: int) -> float:
        text = server.ask("GET", "/metrics")[2].decode()
        found = re.search(rf'^modelway_requests_total{{.*code="{code}".*}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = [counted(code) for code in (200, 400, 404)]
    client.send("ModelInfer", request().SerializeToString())
    server.ask("POST", "/v2/models/tiny/infer", infer_body())
    refused(client, request(inputs=[]).SerializeToString())
    refused(client, request(model_name="other").SerializeToString())
    client.call("ServerReady")
    assert [counted(code) - old for code, old in zip((200, 400, 404), before, strict=True)] == [2, 1, 1]
    assert b"_in_flight" in server.ask("GET", "/metrics")[2]
    assert re.search(rb"in_flight{.*} 0.0", server.ask("GET", "/metrics")[2])


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each call of its model takes about a second."""
    folder = tmp_path_factory.mktemp("slow")
    model = write_model(folder / "model", scale=2.0, work=8)
    limits = ("--max-in-flight-mib", "4", "--max-body-mib", "4")
    with serving(folder, "--model-dir", str(model), "--port", "0", "--grpc-port", "0", *limits) as found:
        yield found


def in_flight(server: Server) -> float:
    found = re.search(rb"in_flight{.*} (\S+)", server.ask("GET", "/metrics")[2])
    assert found is not None
    return float(found[1])


def test_deadlines_and_cancelled_calls_run_no_model(slow: Server) -> None:
    with connected(slow) as client:
        first = client.start(request().SerializeToString())
        while in_flight(slow) < 1:
            time.sleep(0.005)
        # these wait for the first one
        code, _ = refused(client, request().SerializeToString(), timeout=0.05)
        assert code == "DEADLINE_EXCEEDED"
        cancelled = client.start(request().SerializeToString())
        while in_flight(slow) < 2:
            time.sleep(0.005)
        cancelled.cancel()
        while in_flight(slow) > 1:
            time.sleep(0.005)
        assert doubled(first.result()).tolist() == [[2.0] * WIDTH]
        text = slow.ask("GET", "/metrics")[2].decode()
        assert re.search(r'requests_total{.*code="499".*} 2.0', text)
        assert re.search(r"batch_rows_count{.*} 1.0", text)


def test_messages_in_flight_are_bounded_together_and_small_ones_pass(slow: Server) -> None:
    with Http2(slow) as first, Http2(slow) as second, connected(slow) as client:
        stream = first.begin()
        first.send(stream, framed(bytes(4 * MIB))[: 3 * MIB], end=False)
        answer = second.call(framed(bytes(3 * MIB)))
        assert answer["grpc-status"] == "8"
        assert "try again in a moment" in answer["grpc-message"]
        assert answer["grpc-retry-pushback-ms"] == "1000"
        assert doubled(client.send("ModelInfer", request().SerializeToString())).tolist() == [[2.0] * WIDTH]
        # REST has the same limit
        status, headers, _ = slow.ask("POST", "/v2/models/tiny/infer", bytes(3 * MIB))
        assert status == 429
        first.state.reset_stream(stream)
        first.flush()
    while in_flight(slow):
        time.sleep(0.005)


def test_drain_answers_what_is_in_flight_and_what_still_comes(tmp_path: Path) -> None:
    """One slow call runs at SIGTERM; the same connection and a new one send more; all are answered, then status 0."""
    model = write_model(tmp_path / "model", scale=3.0, work=8)
    with (
        serving(tmp_path, "--model-dir", str(model), "--port", "0", "--grpc-port", "0") as server,
        connected(server) as client,
        connected(server) as idle,
    ):
        assert idle.call("ServerReady").ready
        calls = [client.start(request().SerializeToString())]
        while in_flight(server) < 1:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        while server.ask("GET", "/v2/health/ready")[0] != 503:
            time.sleep(0.005)
        with connected(server) as late:
            assert not late.call("ServerReady").ready
            assert not late.call("ModelReady", name="tiny").ready
            assert late.call("ServerLive").live
            calls += [each.start(request().SerializeToString()) for each in (client, idle, late)]
            for call in calls:
                assert doubled(call.result()).tolist() == [[3.0] * WIDTH]
            assert server.process.wait(20) == 0


def test_half_sent_messages_hold_no_drain(tmp_path: Path) -> None:
    """The limit of the drain is not reached."""
    model = write_model(tmp_path / "model", scale=2.0)
    ports = ("--port", "0", "--grpc-port", "0")
    with (
        serving(tmp_path, "--model-dir", str(model), *ports, "--drain-limit", "10") as server,
        Http2(server) as stopped,
        Http2(server) as late,
    ):
        content = framed(request().SerializeToString())
        half = stopped.begin()
        stopped.send(half, content[:20], end=False)
        rest = late.begin()
        late.send(rest, content[:20], end=False)
        while in_flight(server) < 2:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        while server.ask("GET", "/v2/health/ready")[0] != 503:
            time.sleep(0.005)
        # one that comes to its end in time is answered
        late.state.send_data(rest, content[20:], end_stream=True)
        late.flush()
        while rest not in late.bodies:
            late.receive()
        assert doubled(late.bodies[rest][5:]).tolist() == [[2.0] * WIDTH]
        assert server.process.wait(20) == 0


def test_samples_are_those_of_both_protocols(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=2.0)
    options = ("--port", "0", "--grpc-port", "0", "--sample-dir", str(tmp_path / "samples"), "--sample-share", "1")
    with serving(tmp_path, "--model-dir", str(model), *options) as server, connected(server) as client:
        client.send("ModelInfer", request(id="by gRPC", value=0.5).SerializeToString())
        server.ask("POST", "/v2/models/tiny/infer", {**infer_body(value=0.5), "id": "by REST"})
        path = tmp_path / "samples" / "samples.jsonl"
        end = time.monotonic() + 60
        while len(lines := path.read_text().splitlines()) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
    found = [json.loads(line) for line in lines]
    assert {each["id"] for each in found} == {"by gRPC", "by REST"}
    assert [[part[side] for side in ("inputs", "outputs")] for part in found][0] == [
        [{"name": "x", "shape": [1, WIDTH], "data": [0.5] * WIDTH}],
        [{"name": "y", "shape": [1, WIDTH], "data": [1.0] * WIDTH}],
    ]


def test_port_that_is_taken_ends_the_server(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        process = start(tmp_path, "--model-dir", str(model), "--port", "0", environ={"GRPC_PORT": str(number)})
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert re.search(rf"{number}.*address already in use", errors)


def test_grpc_has_a_port_of_its_own_only_where_one_is_named(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", scale=1.0)
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        assert server.grpc_port == 0
    process = start(tmp_path, "--model-dir", str(model), "--port", "0", environ={"GRPC_PORT": "no"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--grpc-port must be a whole number from 0 to 65535, got 'no'" in errors


def test_a_large_call_that_is_reset_leaves_the_other_calls_of_its_connection(server: Server) -> None:
    frame = bytes(16_384)
    with Http2(server) as client:
        stream = client.begin()
        # the server widens the call's window when half of it is used
        client.send(stream, b"\0" + (2 << 20).to_bytes(4, "big") + frame * 32, end=False)
        client.receive()
        while client.state.local_flow_control_window(stream) >= len(frame):
            client.state.send_data(stream, frame)
        client.state.reset_stream(stream)
        other = client.begin()
        client.state.send_data(other, framed(request().SerializeToString()), end_stream=True)
        client.flush()
        assert client.wait_for(other)["grpc-status"] == "0"
        assert not client.ended
