"""Clients that put load on an endpoint, and a look at the processes behind it."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.tiny_model import infer_body

BODY = json.dumps(infer_body())


class Client:
    """Asks over one kept-open connection, as a real client does."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def ask(self, user: str | None = None) -> tuple[int, str | None, float | None]:
        headers = {"x-user": user} if user else {}
        self._connection.request("POST", "/v2/models/tiny/infer", BODY, headers)
        response = self._connection.getresponse()
        body = response.read()
        value = json.loads(body)["outputs"][0]["data"][0] if response.status == 200 else None
        return response.status, response.getheader("x-model-version"), value

    def close(self) -> None:
        self._connection.close()


def ask(url: str, times: int, user: str | None = None) -> list[tuple[int, str | None, float | None]]:
    client = Client(url)
    try:
        return [client.ask(user) for _ in range(times)]
    finally:
        client.close()


class Answers:
    """What the clients of a load got."""

    def __init__(self) -> None:
        self.all: list[tuple[int, str | None, float | None]] = []
        self.failures: list[str] = []

    def wait_for(self, more: int) -> None:
        goal = len(self.all) + more
        eventually(lambda: len(self.all) >= goal or bool(self.failures))


@contextmanager
def load(url: str, clients: int = 4) -> Iterator[Answers]:
    """Ask without pause from several clients until the block ends."""
    answers, end = Answers(), threading.Event()

    def run() -> None:
        client = Client(url)
        while not end.is_set():
            try:
                answers.all.append(client.ask())
            except (OSError, http.client.HTTPException) as error:
                answers.failures.append(repr(error))
                return
        client.close()

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextmanager
def listener(port: int) -> Iterator[None]:
    """Take a port, as soon as its last holder is gone."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def bound() -> bool:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

    eventually(bound)
    taken.listen()
    with taken:
        yield


def eventually(condition: Callable[[], bool], patience: float = 30) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


def pid_at(url: str) -> int:
    """The process that listens at a URL."""
    port = int(url.rpartition(":")[2])
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1] == port and connection.pid:
            return connection.pid
    raise AssertionError(f"nothing listens at {url}")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes with a file of ``folder`` in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(argument.startswith(str(folder)) for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]
