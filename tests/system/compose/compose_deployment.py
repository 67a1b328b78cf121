"""A deployment of docker-compose.yaml in a folder of its own, as somebody who follows docs/operations.md has it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from modelway.errors import ModelwayError
from modelway.localairflow.processes import free_port
from modelway.localairflow.rest import AirflowApi

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
OPERATIONS = REPOSITORY / "docs" / "operations.md"
#: what the tests add to the deployment: DAGs of theirs beside the image's own
OVERRIDE = """
x-dags: &dags {volumes: ["./dags:/opt/modelway/dags:ro"]}
services: {api-server: *dags, scheduler: *dags, dag-processor: *dags, triggerer: *dags, worker: *dags, gateway: *dags}
"""
#: of one container that starts on a machine with much other work
PATIENCE = 600.0


class Deployment:
    """The folder, and what runs of it."""

    def __init__(self, folder: Path) -> None:
        """Copy what a clone has of the deployment, and choose free ports."""
        self.folder = folder
        self.ui, self.first = free_port(), _free_range(4)
        shutil.copytree(REPOSITORY / "include", folder / "include")
        shutil.copytree(REPOSITORY / "dags", folder / "dags")
        shutil.copytree(HERE / "dags", folder / "dags", dirs_exist_ok=True)
        shutil.copy(REPOSITORY / "docker-compose.yaml", folder)
        (folder / "docker-compose.override.yaml").write_text(OVERRIDE)
        settings = {
            "COMPOSE_PROJECT_NAME": f"modelway-test-{os.getpid()}",
            "UI_PORT": str(self.ui),
            "ENDPOINT_PORTS": f"{self.first}-{self.first + 3}",
            "TASK_HEARTBEAT_TIMEOUT": "30",
            "WORKER_PATIENCE": "30s",
        }
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    @property
    def secrets(self) -> dict[str, str]:
        """What ``.env`` has."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def run(self, command: str, **variables: str) -> str:
        """Run a command of the documentation in the folder, and return what it printed."""
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=self.folder,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{self.logs() if 'up' in command else ''}"
        return done.stdout

    def logs(self) -> str:
        """Return the last lines of all services."""
        shown = subprocess.run(
            ["docker", "compose", "logs", "--tail", "30"], cwd=self.folder, capture_output=True, text=True
        )
        return shown.stdout[-20000:]

    def containers(self) -> list[dict[str, Any]]:
        """Return the containers of the deployment, ended ones included."""
        return [json.loads(line) for line in self.run("docker compose ps --all --format json").splitlines()]

    def kill(self, service: str) -> str:
        """Kill the first process of one of a service's containers, as when the machine runs out of memory."""
        name = next(each["Name"] for each in self.containers() if each["Service"] == service)
        pid = int(self.run(f"docker inspect --format '{{{{.State.Pid}}}}' {name}"))
        os.kill(pid, signal.SIGKILL)
        return str(name)

    def wait_healthy(self, *services: str) -> None:
        """Wait until each container of the services runs and is healthy."""

        def is_healthy() -> bool:
            found = [each for each in self.containers() if each["Service"] in services]
            return len(found) >= len(services) and all(each["Health"] == "healthy" for each in found)

        self.wait(is_healthy, what=f"{', '.join(services)} to be healthy")

    def wait(self, condition: Callable[[], bool], *, what: str, seconds: float = PATIENCE) -> None:
        """Wait until a condition is true; parts that do not answer meanwhile are asked again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (ModelwayError, httpx.HTTPError):
                pass
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.logs()}"
            time.sleep(1)

    def api(self) -> AirflowApi:
        """Log in as admin, once the API server answers."""
        found: list[AirflowApi] = []

        def logged_in() -> bool:
            password = self.secrets["ADMIN_PASSWORD"]
            found.append(AirflowApi(url=f"http://127.0.0.1:{self.ui}", username="admin", password=password))
            return True

        self.wait(logged_in, what="the API server")
        return found[0]

    def remove(self) -> None:
        """Remove everything of it from the engine."""
        subprocess.run(
            ["docker", "compose", "down", "--volumes", "--remove-orphans", "--timeout", "1"],
            cwd=self.folder,
            capture_output=True,
        )


def documented(section: str) -> list[str]:
    """Return the commands in the ``sh`` blocks of a section of docs/operations.md."""
    text = OPERATIONS.read_text().split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [block.strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def _free_range(size: int) -> int:
    """Return the first of so many free ports in a row."""
    while True:
        first = free_port()
        if first + size < 65536 and all(_is_free(first + more) for more in range(size)):
            return first


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
