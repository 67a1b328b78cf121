"""The machines of the fake's custom jobs: each replica's container is a process of this machine.

A container begins with an empty folder where its job's folder is, ``/tmp/modelway-job``, sees nothing but its variables
and ``CLUSTER_SPEC``, and is ended with all that it started.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from modelway.backends.base import Handle
from modelway.backends.vertex.attempts import read_mark
from modelway.backends.vertex.bodies import FOLDER

#: token of an attempt → the job's folder in the container of its node 0 that began last
_FOLDERS: dict[str, Path] = {}
#: what an image has on its path
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def folder_in_container(handle: Handle) -> Path:
    """Return the job's folder in the container that runs it: not what the object store has of it."""
    _, token = read_mark(handle.mark)
    return _FOLDERS.get(token, Path("/nonexistent"))


class Replica:
    """One machine of a job with its container."""

    def __init__(
        self,
        *,
        spec: Mapping[str, Any],
        pool: int,
        index: int,
        root: Path,
        token: str,
        python: Path,
        variables: Mapping[str, str],
    ) -> None:
        """Prepare a machine.

        :param root: a folder for this machine's containers
        :param python: what images have as python3
        :param variables: what every container here has besides its own
        """
        self.name = f"workerpool{pool}-{index}"
        self.returncode: int | None = None
        self.log = root / "stdout.txt"
        self._spec, self._root, self._token, self._variables = spec, root, token, variables
        self._python, self._containers = python, 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, cluster: Mapping[str, Any]) -> None:
        """Begin the container: a new one, with nothing in it, where it was begun before."""
        self._containers += 1
        place = self._root / str(self._containers)
        folder = place / "job"
        place.mkdir(parents=True)
        if self.name == "workerpool0-0":
            _FOLDERS[self._token] = folder
        command = [*self._spec["command"], *self._spec.get("args", ())]
        command = [str(folder) if word == FOLDER else word for word in command]
        if command[0] == "python3":
            command[0] = str(self._python)
        own = {each["name"]: each["value"].replace("$$(", "$(") for each in self._spec.get("env", ())}
        environment = {"PATH": PATH, **self._variables, **own, "CLUSTER_SPEC": json.dumps(cluster)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the container's exit status as the platform counts it; None while it runs."""
        assert self._process is not None
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM to the container's first process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the container with all that it started."""
        if self._process is None:
            return
        try:
            root = psutil.Process(self._process.pid)
            # Stopped, it starts nothing more.
            root.suspend()
            family = [*root.children(recursive=True), root]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        psutil.wait_procs(family, timeout=10)

    def text(self) -> str:
        """Return what its containers have printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def cluster_spec(replicas: Mapping[str, int], *, port: int) -> Callable[[str], dict[str, Any]]:
    """Return what makes ``CLUSTER_SPEC`` for a replica by its name.

    :param replicas: pool → how many replicas it has
    """
    hosts = {pool: [f"127.0.0.1:{port}"] * count for pool, count in replicas.items()}

    def of(name: str) -> dict[str, Any]:
        pool, _, index = name.rpartition("-")
        task = {"type": pool, "index": int(index)}
        return {
            "cluster": hosts,
            "environment": "cloud",
            "task": task,
            "job": {"worker_pool_specs": "not to be logged"},
        }

    return of


def free_port() -> int:
    """Return a port of this machine that nobody listens at; no outgoing connection gets it before it is used."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def store_variables() -> dict[str, str]:
    """Return the variables that lead containers to the emulator of Cloud Storage that this process uses."""
    return {name: value for name, value in os.environ.items() if name.startswith(("STORAGE_", "GOOGLE_", "GCSFS_"))}


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Wait for a condition; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
