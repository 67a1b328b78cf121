"""The Docker engine that tests use: the one of DOCKER_HOST or of this machine; what they make there they remove."""

import os
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import JOB_IMAGE, Handle
from modelway.errors import SubmitFailed
from modelway.platforms.docker.engine import Engine

#: makes a file whole or not at all
WRITE = """
import os, sys
path, text = sys.argv[1:]
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path + ".part", "w") as file: file.write(text)
os.rename(path + ".part", path)
"""


def require_engine(*images: str) -> Engine:
    """Return the engine; without one, or without an image (the job's), the test is skipped, but never on CI."""
    engine = Engine()
    try:
        for image in images or (JOB_IMAGE,):
            if not engine.api.images(name=image) and os.environ.get("CI") != "true":
                pytest.skip(f"the Docker engine has no image {image} (make images)")
    except SubmitFailed as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{error.what} (make cluster)")
    return engine


def remove_all(engine: Engine, *, run: str) -> None:
    """Remove all that the jobs of a run left on the engine."""
    labels = {"modelway.dev/run": run}
    for container in engine.containers(labels):
        engine.remove(container["Id"])
    for volume in engine.volumes(labels):
        engine.remove_volume(volume["Name"])


def inspected(handle: Handle) -> Any:
    """Return the container of a job's try as the engine describes it."""
    found = Engine().inspect(handle.name)
    assert found is not None, f"there is no container {handle.name}"
    return found


def put_text(handle: Handle, name: str, text: str) -> None:
    """Write a file of the job's folder from within its running container, whole or not at all."""
    api = Engine().api
    folder = inspected(handle)["Config"]["Labels"]["modelway.dev/folder"]
    begun = api.exec_create(handle.name, ["python3", "-c", WRITE, f"{folder}/{name}", text])["Id"]
    said = api.exec_start(begun)
    assert api.exec_inspect(begun)["ExitCode"] == 0, said


def pid_outside(handle: Handle, pid: int) -> int:
    """Return the number that this machine gives a process of a job's container."""
    listed = Engine().api.top(handle.name, ps_args="-eo pid")
    for (outside,) in listed["Processes"]:
        try:
            status = Path(f"/proc/{outside}/status").read_text()
        except FileNotFoundError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        if numbers[-1] == str(pid):
            return int(outside)
    raise AssertionError(f"no process {pid} runs in {handle.name}")


def read_log(backend: Any, handle: Handle, *, offset: int = 0) -> tuple[list[str], int]:
    """Return all lines that a job has printed since ``offset``, and the new offset."""
    lines: list[str] = []
    before = None
    while offset != before:
        before = offset
        text, offset = backend.logs(handle, offset=offset)
        lines += text.splitlines()
    return lines, offset
