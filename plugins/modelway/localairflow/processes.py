"""A real Airflow on this machine: its four components as processes that start together and leave nothing behind."""

import base64
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from modelway.errors import EndpointNotReady, NotWritable
from modelway.folders import models_folder
from modelway.localairflow.dag_files import dag_files
from modelway.localairflow.database import is_migrated, record_migrated

#: the log servers of two of them listen on every address; here the api-server reads the files itself
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
#: the file that runs one of them, and other commands of Airflow
COMMAND = Path(__file__).with_name("component.py")
START_SECONDS = 240.0
STOP_SECONDS = 20.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
#: how much of a component's log an error repeats
LAST_CHARACTERS = 2000
BUNDLES = [{"name": "modelway", "classpath": "modelway.bundle.SnapshotDagBundle", "kwargs": {}}]
#: variables of the user that are data for tasks; all other ones of Airflow are settings of another installation
PASSED_ON = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")


class LocalAirflow:
    """Airflow with SQLite and the LocalExecutor on free ports of 127.0.0.1, for one process to start and stop.

    ``with LocalAirflow(home=…, repository=…) as airflow:`` starts a healthy Airflow; afterwards every process that it
    or one of its tasks started is gone (on Linux also those that left their parents).
    """

    def __init__(
        self,
        *,
        home: Path,
        repository: Path | None,
        environment: Mapping[str, str] | None = None,
        name: str = "airflow",
    ) -> None:
        """Use the folder ``<home>/<name>``.

        :param repository: the folder with ``dags/`` and ``plugins/``; None where modelway was installed as a package,
            which ships both
        """
        self.home = home
        self.folder = home / name
        self.repository = repository
        self.extra = dict(environment or {})
        self.environment: dict[str, str] = {}
        """the environment of its processes; empty until ``prepare``"""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""
        self.password = ""

    def __enter__(self) -> "LocalAirflow":
        """Start Airflow and wait until it is healthy."""
        adopt_orphans()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """Start the components.

        :raises EndpointNotReady: a component ended or did not become healthy; the message has its last lines
        :raises NotWritable: the home folder cannot be written
        """
        self.prepare()
        for component in COMPONENTS:
            self.start_component(component)
        self._wait_until_healthy()

    def prepare(self, *, migrate: bool = True) -> None:
        """Make the folder, the settings (``environment``) and the database, without starting anything.

        :param migrate: False where the process that uses the database brings it to this version by itself
        """
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritable(
                f"the home folder cannot be written ({error.strerror})",
                where=str(self.home),
                do="Make it writable, or set MODELWAY_HOME to a folder that is",
            ) from error
        if self.repository is None:
            for name, text in dag_files().items():
                (self.folder / "dags").mkdir(exist_ok=True)
                (self.folder / "dags" / name).write_text(text)
        self.environment = self._environment()
        if migrate and not is_migrated(self.folder):
            self._migrate()

    def _environment(self) -> dict[str, str]:
        stored = self._secrets()
        self.password = stored["password"]
        api = free_port()
        self.url = f"http://127.0.0.1:{api}"
        write_private(self.folder / "passwords.json", json.dumps({"admin": self.password}))
        airflow = {
            "CORE__DAGS_FOLDER": str((self.repository or self.folder) / "dags"),
            "CORE__PLUGINS_FOLDER": str((self.repository or self.folder) / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__FERNET_KEY": stored["fernet_key"],
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder / 'airflow.db'}",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(api),
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": stored["secret_key"],
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": stored["jwt_secret"],
            "LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            # A run ends with the DAG files and specs that it started with, see docs/adr/0008.
            "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLES),
            "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.folder / "bundles"),
            # A new version of the files and the DAGs in them appear together.
            "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            # Only of files that did not change: a new state of them is parsed when the bundle is refreshed.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "SCHEDULER__CATCHUP_BY_DEFAULT": "False",
        }
        return {
            **{
                name: os.environ[name]
                for name in os.environ
                if name.startswith(PASSED_ON) or not name.startswith("AIRFLOW_")
            },
            "AIRFLOW_HOME": str(self.folder),
            **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
            "MODELWAY_HOME": str(self.home),
            # Found by the settings of the user's own Airflow, which this one does not have.
            "MODELWAY_MODELS": str(models_folder()),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **self.extra,
        }

    def _secrets(self) -> dict[str, str]:
        path = self.folder / "secrets.json"
        if not path.exists():
            stored = {name: secrets.token_urlsafe(32) for name in ("secret_key", "jwt_secret")}
            stored["fernet_key"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
            stored["password"] = secrets.token_urlsafe(9)
            write_private(path, json.dumps(stored))
        read: dict[str, str] = json.loads(path.read_text())
        return read

    def _migrate(self) -> None:
        """Bring Airflow's database to this version."""
        log = self.folder / "logs" / "migrate.txt"
        with log.open("wb") as output:
            done = subprocess.run(
                self._command("db", "migrate"), env=self.environment, stdout=output, stderr=output, cwd=self.folder
            )
        if done.returncode:
            raise EndpointNotReady(f"airflow db migrate failed:\n{log.read_text()[-LAST_CHARACTERS:]}", where=str(log))
        record_migrated(self.folder)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(COMMAND), "airflow", *arguments]

    def start_component(self, component: str) -> None:
        """Start one of ``COMPONENTS``."""
        environment = dict(self.environment)
        if component != "api-server":
            # They end when the database is locked for SQLite's 5 seconds, as the api-server locks it on a busy machine;
            # that one must not wait longer itself: two of its own requests may wait for each other.
            environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] += "?timeout=60"
        with self._log(component).open("ab") as output:
            self.processes[component] = subprocess.Popen(
                self._command(component, *COMPONENTS[component]),
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: Ctrl-C reaches this process alone, which then stops them in order.
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )

    def _log(self, component: str) -> Path:
        return self.folder / "logs" / f"{component}.txt"

    def check(self) -> None:
        """Check that every component still runs.

        :raises EndpointNotReady: one has ended; the message names it and has its last lines
        """
        for component in self.processes:
            self.check_component(component)

    def check_component(self, component: str) -> None:
        """Check that one component still runs, as :meth:`check` does."""
        process = self.processes[component]
        if process.poll() is not None:
            text = self._log(component).read_text(errors="replace")[-LAST_CHARACTERS:].strip()
            raise EndpointNotReady(
                f"airflow {component} ended with {process.returncode}",
                where=str(self._log(component)),
                do=f"Read the end of its log:\n{text}",
            )

    def _wait_until_healthy(self) -> None:
        import httpx

        deadline = time.monotonic() + START_SECONDS
        # One client: to make one takes longer than the request.
        with httpx.Client(base_url=self.url, timeout=5) as client:
            while time.monotonic() < deadline:
                self.check()
                try:
                    health: dict[str, Any] = client.get("/api/v2/monitor/health").json()
                    if all(part.get("status") == "healthy" for part in health.values()) and len(health) >= 4:
                        return
                except (httpx.HTTPError, ValueError):
                    pass
                time.sleep(0.5)
        raise EndpointNotReady(
            f"Airflow was not healthy within {START_SECONDS:g} seconds", where=str(self.folder / "logs")
        )

    def stop(self) -> None:
        """Stop the components, then whatever they or their tasks left."""
        running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        stop_descendants()


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def adopt_orphans() -> None:
    """Become the parent of every process below that loses its own, so that none can be missed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def dies_with_parent(number: signal.Signals) -> Callable[[], Any] | None:
    """Return a function that makes a new process get a signal when its parent ends (Linux)."""
    if sys.platform != "linux":
        return None
    return partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, number, 0, 0, 0)


def stop_descendants(*, spare: Path | None = None) -> None:
    """End every process below this one: SIGTERM, which servers drain on, then SIGKILL.

    :param spare: processes with an argument inside this folder continue
    """
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        left = [child for child in psutil.Process().children(recursive=True) if _must_go(child, spare)]
        for child in left:
            try:
                child.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=patience)


def _must_go(process: psutil.Process, spare: Path | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return spare is None or not any(word.startswith(f"{spare}{os.sep}") for word in process.cmdline())
    except psutil.NoSuchProcess:
        # It ended by itself, after the list was made.
        return False


def write_private(path: Path, text: str) -> None:
    """Replace a file with one that only its owner can read."""
    beside = path.with_suffix(".part")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
