"""Wrong calls of every kind over gRPC: each is refused, the server runs on, and a well-behaved client sees nothing.

The calls are the same in every run (tests/fuzzed_requests.py).
"""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import helper

from tests.fuzzed_requests import DATATYPES, neighbour, odd_bytes
from tests.http2_client import Http2, framed
from tests.inference_messages import SERVICE, connected, message, parsed
from tests.model_server import Server, Tensors, serving, write_program
from tests.tiny_model import WIDTH

MIB = 1 << 20
ROWS = np.arange(2 * WIDTH, dtype="<f4").reshape(2, WIDTH)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: statuses of calls that are wrong: not those of a server that is
REFUSED = {"3", "5", "8", "12"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzzed")
    tensor: Tensors = {"x": ("FP32", ["batch", WIDTH])}
    node = helper.make_node("Add", ["x", "x"], ["y"])
    model = write_program(folder / "model", [node], tensor, {"y": tensor["x"]})
    with serving(folder, "--model-dir", str(model), "--port", "0", "--grpc-port", "0") as found:
        yield found


def request(**fields: Any) -> Any:
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=ROWS.shape)
    more = {"model_name": "m", "id": "7", "inputs": [tensor], "raw_input_contents": [ROWS.tobytes()], **fields}
    return message("ModelInferRequest", **more)


def typed(**contents: Any) -> Any:
    """A request with typed contents."""
    return message(
        "InferInputTensor",
        name="x",
        datatype="FP32",
        shape=[2, WIDTH],
        contents=message("InferTensorContents", **contents),
    )


@pytest.fixture(autouse=True)
def beside(server: Server) -> Iterator[None]:
    """A client that must not notice anything, and a server that must not end."""
    with connected(server) as client:

        def ask(value: float) -> float:
            data = np.full((1, WIDTH), value, dtype="<f4")
            tensor = message("InferInputTensor", name="x", datatype="FP32", shape=data.shape)
            content = message("ModelInferRequest", model_name="m", inputs=[tensor], raw_input_contents=[data.tobytes()])
            answer = parsed("ModelInferResponse", client.send("ModelInfer", content.SerializeToString()))
            return float(np.frombuffer(answer.raw_output_contents[0], dtype="<f4")[-1])

        with neighbour(ask):
            yield
    assert server.process.poll() is None
    assert 'code="5' not in server.ask("GET", "/metrics")[2].decode()


def check(client: Http2, body: bytes) -> str:
    """Send the body of a call that is wrong, or right after all; return its status."""
    answer = client.call(body)
    status = answer.get("grpc-status", "no answer")
    assert status == "0" or (status in REFUSED and answer["grpc-message"]), (answer, body[:200])
    return status


def test_messages_with_odd_bytes(server: Server) -> None:
    contents = [request().SerializeToString()]
    contents.append(request(inputs=[typed(fp32_contents=ROWS.ravel())], raw_input_contents=[]).SerializeToString())
    with Http2(server) as client:
        statuses = [
            check(client, framed(odd))
            for seed, content in enumerate(contents)
            for odd in odd_bytes(content, seed=seed, number=200)
        ]
    assert statuses.count("3") > 100


def test_prefixes_that_lie(server: Server) -> None:
    content = request().SerializeToString()
    with Http2(server) as client:
        statuses = [check(client, odd) for odd in odd_bytes(framed(content), seed=3, number=80)]
        for length in (0, len(content) - 1, len(content) + 1, 2**31, 2**32 - 1):
            statuses.append(check(client, b"\0" + struct.pack(">I", length) + content))
        statuses += [check(client, body) for body in (b"", b"\0", b"\0\0\0\0", framed(b""))]
    assert "0" in statuses
    assert statuses.count("3") > 20


NUMBERS = (-1, 0, 1, 2, 3, 2**31, 2**62, -(2**63))


def other_shape(found: Any, tensor: Any, chance: random.Random) -> None:
    tensor.shape[:] = chance.choices(NUMBERS, k=chance.choice((0, 1, 2, 2, 3, 200)))


def other_datatype(found: Any, tensor: Any, chance: random.Random) -> None:
    tensor.datatype = chance.choice(DATATYPES)


def other_name(found: Any, tensor: Any, chance: random.Random) -> None:
    tensor.name = chance.choice(("", "y", "x" * 3000, "\u00e4%"))


def other_model(found: Any, tensor: Any, chance: random.Random) -> None:
    found.model_name = chance.choice(("", "n", "m" * 5000))


def other_contents(found: Any, tensor: Any, chance: random.Random) -> None:
    found.raw_input_contents[:] = [b"x" * chance.choice((0, 1, 31, 33))] * chance.choice((0, 1, 2, 50))


def typed_contents(found: Any, tensor: Any, chance: random.Random) -> None:
    tensor.contents.fp32_contents.extend([0.5] * chance.choice((0, 7, 8, 9)))
    found.raw_input_contents[:] = []


def contents_of_another_type(found: Any, tensor: Any, chance: random.Random) -> None:
    tensor.contents.int64_contents.extend([1] * 8)


def more_inputs(found: Any, tensor: Any, chance: random.Random) -> None:
    found.inputs.extend([tensor] * chance.choice((1, 40)))


def other_outputs(found: Any, tensor: Any, chance: random.Random) -> None:
    found.outputs.add(name=chance.choice(("y", "x", "")))


CHANGES = (
    *(other_shape, other_datatype, other_name, other_model, other_contents),
    *(typed_contents, contents_of_another_type, more_inputs, other_outputs),
)


def odd_requests(number: int) -> Iterator[Any]:
    """Requests of which one or two parts are odd, though each is a message."""
    chance = random.Random(5)
    for _ in range(number):
        found = request()
        for change in chance.choices(CHANGES, k=chance.randint(1, 2)):
            change(found, found.inputs[0], chance)
        yield found


def test_messages_with_odd_values(server: Server) -> None:
    with Http2(server) as client:
        statuses = [check(client, framed(odd.SerializeToString())) for odd in odd_requests(250)]
    assert statuses.count("3") > 100
    assert statuses.count("5") > 5


def test_values_that_are_no_numbers_are_answered(server: Server) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -0.0]], dtype="<f4")
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=values.shape)
    content = request(inputs=[tensor], raw_input_contents=[values.tobytes()]).SerializeToString()
    with connected(server) as client:
        answer = parsed("ModelInferResponse", client.send("ModelInfer", content))
    assert answer.raw_output_contents[0] == (values * 2).tobytes()


def test_a_hundred_megabytes_are_refused(server: Server) -> None:
    """The rest of the message is not read: the server says so while it is sent."""
    with Http2(server) as client:
        stream = client.begin()
        content = framed(bytes(100 * MIB))
        client.send(stream, content)
        answer = client.wait_for(stream)
        assert (answer["grpc-status"], "the limit of 67108864 bytes" in answer["grpc-message"]) == ("8", True)
        # the connection is as good as before
        assert client.call(framed(request().SerializeToString()))["grpc-status"] == "0"


@pytest.mark.parametrize(
    "content",
    [
        b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        PREFACE[:10] + bytes(100),
        PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        PREFACE + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x05\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff\xff",
        PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x01\x00\x01\x00\x00\x00\x01x",
        PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x09\x00\x00\x00\x00\x01" * 5,
    ],
    ids=["HTTP/1.1", "TLS", "preface", "length", "window of 0", "headers", "data", "continuation"],
)
def test_what_is_no_http2_ends_its_connection_alone(server: Server, content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=60) as connection:
        connection.sendall(content)
        # one that is ended while it sends is reset
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 16):
                pass


def test_frames_with_odd_bytes(server: Server) -> None:
    """Whole conversations, of which some bytes are changed: answered, refused, or the connection is closed."""
    with Http2(server) as client:
        client.begin()
        conversation = client.state.data_to_send()
    content = framed(request().SerializeToString())
    conversation = PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + conversation
    conversation += len(content).to_bytes(3, "big") + b"\x00\x01\x00\x00\x00\x01" + content
    for odd in odd_bytes(conversation, seed=6, number=150):
        with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) as connection:
            connection.sendall(odd)
            if odd.endswith(conversation[-20:]):
                connection.recv(1 << 16)


def test_calls_that_are_cancelled_again_and_again(server: Server) -> None:
    """Each begins a call that the server has to give up."""
    content = framed(request().SerializeToString())
    with Http2(server) as client:
        for _ in range(500):
            stream = client.begin()
            client.state.send_data(stream, content, end_stream=True)
            client.state.reset_stream(stream)
        client.flush()
        assert client.call(content)["grpc-status"] == "0"
    while b"in_flight" in (text := server.ask("GET", "/metrics")[2]) and b"in_flight{" in text:
        if float(text.partition(b"in_flight{")[2].partition(b"} ")[2].split()[0]) <= 1:
            break
        time.sleep(0.01)


def test_frames_that_bring_nothing_end_their_connection(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) as connection:
        ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
        connection.sendall(PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        answered = b""
        try:
            for _ in range(60):
                connection.sendall(ping * 1000)
            while part := connection.recv(1 << 20):
                answered += part
        except (ConnectionResetError, BrokenPipeError):
            return
        # GOAWAY with the reason that this is too much
        assert b"\x07\x00\x00\x00\x00\x00" in answered
        assert b"\x00\x00\x00\x0b" in answered


def test_answers_that_nobody_reads_are_no_memory(server: Server) -> None:
    """Twenty answers of half a megabyte to each of ten clients, which open no window for them."""
    data = np.zeros((8192, WIDTH), dtype="<f4")
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=data.shape)
    content = framed(request(inputs=[tensor], raw_input_contents=[data.tobytes()]).SerializeToString())
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    clients = [Http2(server) for _ in range(10)]
    for client in clients:
        for _ in range(20):
            client.send(client.begin(), content)
    time.sleep(1)
    # no more than what all requests in flight may hold
    assert process.memory_info().rss - before < 200 * MIB
    for client in clients:
        client.socket.close()


def test_slow_and_vanishing_clients(server: Server) -> None:
    content = framed(request().SerializeToString())
    clients = [Http2(server) for _ in range(30)]
    streams = [client.begin() for client in clients]
    for at, (client, stream) in enumerate(zip(clients, streams, strict=True)):
        client.send(stream, content[: at + 1], end=False)
    for client in clients[::3]:
        client.socket.close()
    for client, stream in zip(clients[1::3], streams[1::3], strict=True):
        client.state.reset_stream(stream)
        client.flush()
    for at, (client, stream) in list(enumerate(zip(clients, streams, strict=True)))[2::3]:
        client.send(stream, content[at + 1 :])
        assert client.wait_for(stream)["grpc-status"] == "0"
    for client in clients:
        client.socket.close()


def test_messages_that_do_not_come_are_cut_off(server: Server) -> None:
    """One stops, and one sends a byte now and then."""
    with Http2(server) as stopped, Http2(server) as dripping:
        quiet, dropping = stopped.begin(), dripping.begin()
        stopped.send(quiet, b"\0\0\0", end=False)
        dripping.socket.settimeout(0.3)
        end = time.monotonic() + 40
        while dropping not in dripping.answers and time.monotonic() < end:
            try:
                dripping.send(dropping, b"\0", end=False)
                dripping.receive()
            except TimeoutError:
                continue
        assert dripping.answers[dropping]["grpc-status"] == "4"
        assert stopped.wait_for(quiet)["grpc-status"] == "4"
        assert "the message brought less than 262144 bytes in 10 s" in stopped.answers[quiet]["grpc-message"]


def test_methods_of_other_services_and_of_http(server: Server) -> None:
    with Http2(server) as client:
        for path in ("/", SERVICE, "/%00", "/" + "a" * 20_000):
            assert client.call(b"", path)["grpc-status"] == "12"
        assert client.call(framed(b""), SERVICE + "ServerLive", content_type="text/plain")["grpc-status"] == "12"
