"""Clients that put load on an endpoint, and a look at the processes behind it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker.errors
import grpc
import psutil
from modelway.errors import ModelwayError, SubmitFailed
from modelway.platforms.docker.engine import Engine
from modelway.platforms.docker.layout_image import REPOSITORY

from tests.inference_messages import SERVICE, message, parsed
from tests.tiny_model import WIDTH, infer_body

BODY = json.dumps(infer_body())


class Client:
    """Asks over one kept-open connection, as a real client does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        self._path = f"{parts.path}/v2/models/tiny/infer"

    def ask(self, user: str | None = None) -> tuple[int, str | None, float | None]:
        headers = {"x-user": user} if user else {}
        self._connection.request("POST", self._path, BODY, headers)
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


def call_grpc(url: str, users: Iterable[int]) -> Counter[str]:
    """Call ModelInfer once as each user over one connection of gRPC; count right answers by version."""
    tensor = message("InferInputTensor", name="x", datatype="FP32", shape=[1, WIDTH])
    content = message(
        "ModelInferRequest",
        model_name="tiny",
        inputs=[tensor],
        raw_input_contents=[struct.pack(f"<{WIDTH}f", *[1.0] * WIDTH)],
    ).SerializeToString()
    counts: Counter[str] = Counter()
    parts = urlsplit(url)
    # Without a port gRPC calls that of HTTPS.
    at, options = f"{parts.hostname}:{parts.port or 80}", [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(at, options=options) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        for user in users:
            data, call = infer.with_call(content, timeout=60, metadata=[("x-user", f"user-{user}")])
            answer, version = parsed("ModelInferResponse", data), dict(call.initial_metadata())["x-model-version"]
            assert (answer.model_version, struct.unpack_from("<f", answer.raw_output_contents[0])) == (
                version,
                (float(version),),
            )
            counts[version] += 1
    return counts


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
    """The process that answers at a URL, though it may be a container's."""
    port = int(url.rpartition(":")[2])
    for connection in psutil.net_connections(kind="tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1] == port
        if listens and connection.pid and psutil.Process(connection.pid).name() != "docker-proxy":
            return connection.pid
    return int(container_at(url)["State"]["Pid"])


def container_at(url: str) -> Any:
    """The container that answers at a URL."""
    port, engine = int(url.rpartition(":")[2]), Engine()
    for listed in engine.containers({}):
        if any(published.get("PublicPort") == port for published in listed.get("Ports") or ()):
            found = engine.inspect(listed["Id"])
            assert found is not None
            return found
    raise AssertionError(f"nothing listens at {url}")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes with a file of ``folder`` in their command line, and those of its deployments' containers."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(argument.startswith(str(folder)) for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()] + [
        psutil.Process(container["State"]["Pid"]) for container in containers_of(folder) if container["State"]["Pid"]
    ]


def containers_of(folder: Path) -> list[Any]:
    """The containers of endpoints of the deployments whose homes are below ``folder``."""
    found = []
    # Unlike a glob it passes over a folder that is gone by the time it comes there: images are unpacked meanwhile.
    inside = (Path(place, "deployment") for place, _, files in os.walk(folder) if "deployment" in files)
    for token in (*inside, *folder.parent.glob("deployment")):
        listed = Engine().containers({"modelway.dev/deployment": token.read_text(), "modelway.dev/part": "server"})
        listed += Engine().containers({"modelway.dev/deployment": token.read_text(), "modelway.dev/part": "gateway"})
        found += [Engine().inspect(one["Id"]) for one in listed]
    return [one for one in found if one is not None]


def running(endpoint: object, *, servers: int) -> int:
    """How many processes an endpoint has: a gateway and, where no engine restarts what ends, a supervisor."""
    return servers + (2 if ".local." in type(endpoint).__module__ else 1)


def end_all(folder: Path) -> None:
    """Kill all of the endpoints below a folder, supervisors and engines included: nothing comes back by itself."""
    for container in containers_of(folder):
        Engine().stop(container["Id"], grace_seconds=0)
    while left := processes_of(folder):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)


def end_for_good(url: str) -> None:
    """Kill what answers at a URL; where an engine runs it, so that it does not restart it."""
    pid = pid_at(url)
    try:
        Engine().api.kill(container_at(url)["Id"])
    except (AssertionError, ModelwayError):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def forget(folder: Path) -> None:
    """Remove the state of the endpoints below a folder; what runs stays."""
    for path in folder.glob("**/state.json"):
        path.unlink()
    engine = Engine()
    for container in containers_of(folder):
        if container["Config"]["Labels"]["modelway.dev/part"] == "gateway":
            engine.remove(container["Id"])
            engine.remove_volume(container["Mounts"][0]["Name"])


def left_on_engine(folder: Path) -> list[str]:
    """Names of containers, networks and volumes that endpoints of the deployments at a folder left."""
    left = []
    for token in folder.parent.glob("deployment"):
        label = f"modelway.dev/deployment={token.read_text()}"
        api = Engine().api
        left += [one["Names"][0] for one in api.containers(all=True, filters={"label": label})]
        left += [one["Name"] for one in api.networks(filters={"label": label})]
        left += [one["Name"] for one in api.volumes(filters={"label": label})["Volumes"] or ()]
    return left


def remove_loaded(references: Iterable[str]) -> None:
    """Remove the images that were loaded into the engine, where there is one."""
    engine = Engine()
    with contextlib.suppress(SubmitFailed):
        for reference in references:
            name = f"{REPOSITORY}:{reference.rpartition(':')[2]}"
            if engine.find_image(name) is None:
                continue
            try:
                engine.api.remove_image(name)
            except docker.errors.APIError as error:
                # Gone, or used by another run on this engine, which removes it.
                if error.status_code not in (404, 409):
                    raise
