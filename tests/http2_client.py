"""A client of HTTP/2 that sends what clients of gRPC do not: half a message, no window, frames that break the rules."""

import socket
import time
from types import TracebackType

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamReset, TrailersReceived

from tests.inference_messages import SERVICE
from tests.model_server import Server


class Http2:
    """One connection, driven step by step."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        #: of each stream, the headers and trailers that came
        self.answers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        #: whether the server has closed the connection, or said that it will
        self.ended = False
        self.flush()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.socket.close()

    def begin(self, path: str = SERVICE + "ModelInfer", **headers: str) -> int:
        """Send the headers of a call, and return its stream."""
        stream = self.state.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        more = {"te": "trailers", "content-type": "application/grpc"}
        more |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.state.send_headers(stream, [*fields.items(), *more.items()])
        return stream

    def send(self, stream: int, content: bytes, *, end: bool = True) -> None:
        """Send a part of the body, in as many frames as it needs, as the windows allow."""
        for at in range(0, len(content), 16000):
            part = content[at : at + 16000]
            while not self._over(stream) and self.state.local_flow_control_window(stream) < len(part):
                self.receive()
            if self._over(stream):
                return
            self.state.send_data(stream, part)
            self.flush()
        if end:
            self.state.end_stream(stream)
            self.flush()

    def call(self, content: bytes, path: str = SERVICE + "ModelInfer", **headers: str) -> dict[str, str]:
        """Send a body as it is, prefix included, and return headers and trailers of the answer."""
        stream = self.begin(path, **headers)
        self.send(stream, content)
        return self.wait_for(stream)

    def wait_for(self, stream: int, seconds: float = 30) -> dict[str, str]:
        """Return headers and trailers of the answer, once both are there."""
        end = time.monotonic() + seconds
        while "grpc-status" not in self.answers.get(stream, {}) and not self.ended:
            assert time.monotonic() < end, self.answers
            self.receive()
        return self.answers.get(stream, {})

    def flush(self) -> None:
        """Send what is to be sent."""
        if data := self.state.data_to_send():
            self.socket.sendall(data)

    def receive(self) -> None:
        """Read what the server has sent."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return
        for event in self.state.receive_data(data):
            self._note(event)
        self.flush()

    def _over(self, stream: int) -> bool:
        return self.ended or stream in self.answers

    def _note(self, event: Event) -> None:
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            headers = {str(name): str(value) for name, value in event.headers}
            self.answers.setdefault(event.stream_id, {}).update(headers)
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            self.answers.setdefault(event.stream_id, {}).setdefault("grpc-status", f"reset {int(event.error_code)}")
        elif isinstance(event, ConnectionTerminated):
            self.ended = True


def framed(message: bytes, *, mark: int = 0) -> bytes:
    """Return a message with the prefix of gRPC."""
    return bytes((mark,)) + len(message).to_bytes(4, "big") + message
