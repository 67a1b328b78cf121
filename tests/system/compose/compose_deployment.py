"""A deployment of docker-compose.yaml in a folder of its own, as somebody who follows docs/operations.md has it."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from airflow_image import AirflowImage
from modelway.errors import ModelwayError
from modelway.localairflow.rest import AirflowApi

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
OPERATIONS = REPOSITORY / "docs" / "operations.md"
#: the parts of Airflow, which are one image
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer", "worker", "gateway")
SERVICES = (*AIRFLOW, "migrate", "postgres", "redis", "registry")
#: of one container that starts on a machine with much other work
PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a container, with the numbers that this machine gives it."""

    container: str
    pid: int
    parent: int
    command: str

    def is_alive(self) -> bool:
        """Whether it runs; another process may have its number since."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return False
        return words.strip().startswith(self.command.strip())


class Deployment:
    """The folder, and what runs of it."""

    def __init__(self, folder: Path, *, image: AirflowImage) -> None:
        """Copy what a clone has of the deployment, and choose free ports and a name."""
        self.folder, self.image = folder, image
        self._read: dict[str, str] = {}
        self.ui = _free_range(5)
        self.first = self.ui + 1
        shutil.copytree(REPOSITORY / "include", folder / "include")
        shutil.copytree(REPOSITORY / "dags", folder / "dags")
        shutil.copytree(HERE / "dags", folder / "dags", dirs_exist_ok=True)
        shutil.copy(REPOSITORY / "docker-compose.yaml", folder)
        (folder / "docker-compose.override.yaml").write_text(json.dumps(self._additions()))
        settings = {
            "COMPOSE_PROJECT_NAME": f"modelway-test-{os.getpid()}",
            "AIRFLOW_IMAGE": image.name,
            "UI_PORT": str(self.ui),
            "ENDPOINT_PORTS": f"{self.first}-{self.first + 3}",
            "TASK_HEARTBEAT_TIMEOUT": "30",
            "TASK_QUEUED_TIMEOUT": "90",
            "WORKER_PATIENCE": "30s",
        }
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _additions(self) -> dict[str, Any]:
        """Return what the tests add: DAGs beside the image's own, packages where the image has none, quicker checks."""
        mounts = ["./dags:/opt/modelway/dags:ro", *self.image.mounts]
        part = {"volumes": mounts, "healthcheck": {"interval": "10s"}}
        services = {name: {} for name in SERVICES} | {"migrate": {"volumes": mounts}} | dict.fromkeys(AIRFLOW, part)
        # With a group in common all containers together get as much of the cores as one process beside them.
        driver = subprocess.run(["docker", "info", "--format", "{{.CgroupDriver}}"], capture_output=True, text=True)
        place = {"cgroup_parent": "/"} if driver.stdout.strip() == "cgroupfs" else {}
        return {"services": {name: {**service, **place} for name, service in services.items()}}

    @property
    def secrets(self) -> dict[str, str]:
        """What ``.env`` has."""
        lines = (self.folder / ".env").read_text().splitlines()
        self._read = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        return self._read

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

    def kill(self, *services: str) -> None:
        """Kill the first process of a container of each service, as when the machine runs out of memory.

        Returns when the engine has said that they ended, started again and are healthy.
        """
        # One that follows a part killed before, and starts again itself, has no process now.
        self.wait_healthy(*services)
        listed = self.containers()
        names = [next(each["Name"] for each in listed if each["Service"] == service) for service in services]
        with self._events(names) as events:
            found = self.run(f"docker inspect --format '{{{{.State.Pid}}}}' {' '.join(names)}").split()
            # 0 would be this process and all that belong to it.
            assert "0" not in found, f"not all of {names} run: {found}"
            # At once: one that misses another is not to end by itself before.
            for pid in found:
                os.kill(int(pid), signal.SIGKILL)
            for name in names:
                came_back = rf"(?ms)^{name} die 137$.*^{name} start .*^{name} health_status: healthy"
                self.wait(lambda seen=came_back: re.search(seen, events.read_text()), what=f"{name} to come back")
        self.wait_healthy(*services)

    @contextmanager
    def _events(self, names: Sequence[str]) -> Iterator[Path]:
        """Give the file to which the engine writes what happens to containers, until the block ends."""
        path = self.folder / "events.txt"
        filters = [f"--filter=container={name}" for name in names]
        filters += [f"--filter=event={event}" for event in ("die", "start", "health_status")]
        line = "{{.Actor.Attributes.name}} {{.Action}} {{.Actor.Attributes.exitCode}}"
        with path.open("w") as file:
            # What happened before it listens is among them, too.
            since = f"--since={time.time():.3f}"
            process = subprocess.Popen(["docker", "events", since, *filters, f"--format={line}"], stdout=file)
            try:
                yield path
            finally:
                process.kill()
                process.wait()

    def wait_healthy(self, *services: str) -> None:
        """Wait until each container of the services runs and is healthy."""

        def is_healthy() -> bool:
            found = [each for each in self.containers() if each["Service"] in services]
            return len(found) >= len(services) and all(each["Health"] == "healthy" for each in found)

        self.wait(is_healthy, what=f"{', '.join(services)} to be healthy")

    def wait(self, condition: Callable[[], object], *, what: str, seconds: float = PATIENCE) -> None:
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

    def processes(self, service: str, command: str) -> list[Process]:
        """Return the processes of a service's containers whose command begins so, by this machine's numbers."""
        found = []
        for name in (each["Name"] for each in self.containers() if each["Service"] == service):
            for line in self.run(f"docker top {name} -eo pid,ppid,args").splitlines()[1:]:
                pid, parent, words = line.split(maxsplit=2)
                if words.startswith(command):
                    found.append(Process(container=name, pid=int(pid), parent=int(parent), command=words))
        return found

    def shell(self, command: str) -> str:
        """Run a command in the gateway's container, which has the home of all; what it prints may be nothing."""
        return self.run(f"docker compose exec -T gateway sh -c {shlex.quote(command)} 2>/dev/null || true")

    def schema(self, database: str) -> str:
        """Return the revision of a database's tables."""
        query = "SELECT version_num FROM alembic_version"
        words = f"docker compose exec -T postgres psql --username postgres --tuples-only {database}"
        return self.run(f"{words} --command '{query}'").strip()

    def address(self, service: str) -> str:
        """Return the address of a service's container in the deployment's network, which this machine reaches."""
        name = next(each["Name"] for each in self.containers() if each["Service"] == service)
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.run(f"docker inspect --format '{networks}' {name}").strip()

    def remove(self) -> None:
        """Remove everything of it from the engine."""
        subprocess.run(
            ["docker", "compose", "down", "--volumes", "--remove-orphans", "--timeout", "1"],
            cwd=self.folder,
            # A test that failed in the middle of a restore has left no .env.
            env={**os.environ, **self._read},
            capture_output=True,
        )
        if self.image.mounts:
            subprocess.run(["docker", "image", "rm", "--force", self.image.name], capture_output=True)


def documented(section: str) -> list[str]:
    """Return the commands in the ``sh`` blocks of a section of docs/operations.md."""
    text = OPERATIONS.read_text().split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [block.strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def _free_range(size: int) -> int:
    """Return the first of so many free ports in a row, below those of Kubernetes' services and outgoing connections.

    They are published a minute later, and again by each container that starts again.
    """
    while True:
        first = random.randrange(20_000, 30_000 - size)
        if all(_is_free(first + more) for more in range(size)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
