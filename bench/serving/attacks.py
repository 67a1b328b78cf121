"""Clients that do their worst to a model server on the loopback address: ``python attacks.py PORT SECONDS``.

Twenty of them, each of one kind, again and again. What they were answered is printed as JSON: kind to status (or the
name of the failure) to count. Their bodies are made for ``network.py``.
"""

import contextlib
import gzip
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

PATH = "/v2/models/digits/infer"
CLIENTS = 20
HEAD = b"POST %s HTTP/1.1\r\nhost: x\r\n" % PATH.encode()


class Attack:
    """One kind of client; ``once`` is called until the time is over."""

    def __init__(self, port: int, until: float) -> None:
        """Keep where, and until when on the clock of ``time.monotonic``."""
        self.port, self.until = port, until

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> str:
        """Send a request and return what came back."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.left())
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # a server that refuses need not read the rest
                connection.request("POST", PATH, body, headers or {})
            answer = connection.getresponse()
            answer.read()
            return str(answer.status)
        finally:
            connection.close()

    def open(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=self.left())

    def left(self) -> float:
        """Seconds until the end."""
        return max(0.1, self.until - time.monotonic())

    def long_strings(self) -> str:
        """Strings for numbers, one of them long: numpy would make all as wide."""
        return self.post(LONG_STRINGS)

    def large_json(self) -> str:
        """60 MB of JSON, of which little is wanted."""
        return self.post(LARGE_JSON)

    def empty_lists(self) -> str:
        """As many objects of Python as JSON can make."""
        return self.post(EMPTY_LISTS)

    def json_rows(self) -> str:
        """8,192 rows as JSON."""
        return self.post(JSON_ROWS)

    def too_many_rows(self) -> str:
        """14 MiB of rows, binary."""
        return self.post(*TOO_MANY_ROWS)

    def many_rows(self) -> str:
        """As many rows as are allowed, binary."""
        return self.post(*MANY_ROWS)

    def gzip_bomb(self) -> str:
        """A small body that unfolds to 128 MiB."""
        return self.post(BOMB, {"content-encoding": "gzip"})

    def deep(self) -> str:
        """A million brackets."""
        return self.post(b"[" * 1_000_000)

    def slow_heads(self) -> str:
        """Fifty heads that never end."""
        return self.keep_open(HEAD, number=50, drop=b"x-%d: y\r\n")

    def slow_bodies(self) -> str:
        """Fifty bodies that never end."""
        return self.keep_open(HEAD + b"content-length: 8000000\r\n\r\n{", number=50, drop=b" ")

    def fat_bodies(self) -> str:
        """Three bodies that are sent but for their last bytes."""
        return self.keep_open(HEAD + b"content-length: 62914560\r\n" + FAT, number=3, drop=b" ")

    def large_heads(self) -> str:
        """Headers without end."""
        return self.keep_open(HEAD + b"x-long: ", number=5, drop=b"y" * 100_000)

    def no_readers(self) -> str:
        """Requests whose answers nobody reads."""
        body, headers = MANY_ROWS
        head = HEAD + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        return self.keep_open(head + b"content-length: %d\r\n\r\n" % len(body) + body, number=5, drop=b"")

    def keep_open(self, start: bytes, *, number: int, drop: bytes) -> str:
        """Open connections, send ``start`` on each, then ``drop`` every second until the server closes all."""
        connections = [self.open() for _ in range(number)]
        try:
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(start)
            while connections and time.monotonic() < self.until:
                time.sleep(1)
                connections = [each for each in connections if alive(each, drop)]
            return "closed" if not connections else "open at the end"
        finally:
            for connection in connections:
                connection.close()


def alive(connection: socket.socket, drop: bytes) -> bool:
    """Send a drop; whether the server still takes it."""
    try:
        connection.setblocking(False)
        if drop:
            connection.send(drop.replace(b"%d", b"%d" % random.randrange(10_000)))
        # what was answered is not read but for its first byte, which says whether the connection is closed
        return drop == b"" or connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def tensor(shape: list[int], data: str) -> bytes:
    """Return a request with JSON ``data``."""
    return f'{{"inputs":[{{"name":"image","datatype":"FP32","shape":{shape},"data":{data}}}]}}'.encode()


def binary(rows: int) -> tuple[bytes, dict[str, str]]:
    """Return a request of rows of zeros, and its headers."""
    entry = {"name": "image", "datatype": "FP32", "shape": [rows, 1, 8, 8]}
    head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": rows * 256}}]}).encode()
    return head + bytes(rows * 256), {"inference-header-content-length": str(len(head))}


# made before the time begins
LONG_STRINGS = tensor([1, 1, 8, 8], json.dumps(["x" * 250_000] + [""] * 2000))
LARGE_JSON = tensor([1, 1, 8, 8], "[" + "0," * 30_000_000 + "0]")
EMPTY_LISTS = tensor([1, 1, 8, 8], "[" + "[]," * 5_000_000 + "[]]")
JSON_ROWS = tensor([8192, 1, 8, 8], "[" + "0.25," * (8192 * 64 - 1) + "0]")
TOO_MANY_ROWS = binary(57_344)
MANY_ROWS = binary(8192)
BOMB = gzip.compress(b" " * (128 << 20), 1)
FAT = b"inference-header-content-length: 100\r\n\r\n" + b" " * (59 << 20)
KINDS = (
    Attack.long_strings,
    Attack.large_json,
    Attack.empty_lists,
    Attack.json_rows,
    Attack.too_many_rows,
    Attack.many_rows,
    Attack.gzip_bomb,
    Attack.deep,
    Attack.slow_heads,
    Attack.slow_bodies,
    Attack.fat_bodies,
    Attack.large_heads,
    Attack.no_readers,
)


def main(port: int, seconds: float) -> None:
    """Run all clients and print what they were answered."""
    print("ready", flush=True)
    until = time.monotonic() + seconds
    found: dict[str, Counter[str]] = {kind.__name__: Counter() for kind in KINDS}
    lock = threading.Lock()

    def client(kind: Callable[[Attack], str]) -> None:
        again = True
        while again:
            try:
                word = kind(Attack(port, until))
            except (OSError, http.client.HTTPException) as error:
                word = type(error).__name__
            with lock:
                found[kind.__name__][word] += 1
            again = time.monotonic() < until

    threads = [threading.Thread(target=client, args=(KINDS[at % len(KINDS)],)) for at in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
