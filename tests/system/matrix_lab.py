"""An Airflow for the kill matrix: its tasks and triggers stop at exact steps, its parts can be killed and started."""

import ctypes
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from matrix_places import Place
from modelway import names
from modelway.artifacts.code_package import write_code_package
from modelway.artifacts.store import ArtifactStore
from modelway.errors import EndpointNotReady, ModelwayError
from modelway.localairflow.processes import PR_SET_CHILD_SUBREAPER, LocalAirflow, adopt_orphans
from modelway.localairflow.rest import AirflowApi, TaskState

from tests.airflow_template import with_database
from tests.kept_airflow import kept_running

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
#: starts the cluster, and its API server when that was killed
CLUSTER = Path(os.environ.get("CLUSTER_SCRIPT") or REPOSITORY.parent / "shared" / "cluster" / "cluster")
MATRIX = HERE / "matrix"
#: how soon Airflow sees that a worker or its task's process is dead, in seconds instead of minutes
SETTINGS = {
    "CORE__PARALLELISM": "24",
    # Its DAG files and specs stay.
    "DAG_PROCESSOR__REFRESH_INTERVAL": "60",
    "CORE__KILLED_TASK_CLEANUP_TIME": "20",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    # A dead api-server is back within this many heartbeats.
    "WORKERS__MAX_FAILED_HEARTBEATS": "30",
}
#: how soon its parts take one another for dead; too soon on a busy machine
IMPATIENT = {
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}
PATIENCE_SECONDS = 4
#: of a list of Airflow's API
NEWEST = {"limit": 100, "order_by": "-run_after"}


def wait_for(condition: Callable[[], Any], *, seconds: float, what: Callable[[], str], pause: float = 0.2) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} seconds: {what()}"
        time.sleep(pause)
    return value


@dataclass
class MatrixLab:
    """The running Airflow, the steps at which it stops, and the folders of its jobs."""

    airflow: LocalAirflow
    api: AirflowApi
    seam: Path
    places: Mapping[str, Place]
    """DAG id → where its jobs are; of others that of ``matrix``"""
    dag_of: dict[str, str] = field(default_factory=dict)

    def start(self, cell: str, *, hold: str | None = None, dag_id: str = "matrix") -> None:
        """Start the run of a cell, to be stopped at the step ``hold``."""
        (self.seam / cell).mkdir()
        if hold:
            (self.seam / cell / f"{hold}.hold").touch()
        self.dag_of[cell] = dag_id
        self.api.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "dag_run_id": cell, "conf": {}})

    def release(self, cell: str, step: str) -> None:
        (self.seam / cell / f"{step}.go").touch()

    def reached(self, cell: str, step: str) -> int | None:
        """Return the pid of the process that stopped at the step."""
        path = self.seam / cell / f"{step}.reached"
        return int(path.read_text()) if path.exists() else None

    def submits(self, cell: str) -> list[str]:
        path = self.seam / cell / "submits.txt"
        return path.read_text().splitlines() if path.exists() else []

    def followers(self, cell: str) -> int:
        """Return how many processes have followed the job: its worker, then the triggerer."""
        return len(list((self.seam / cell).glob("*.follows")))

    def place(self, cell: str) -> Place:
        """Return where a cell's job is."""
        return self.places.get(self.dag_of[cell], self.places["matrix"])

    def run_name(self, cell: str) -> str:
        return f"{self.dag_of[cell]}/{cell}"

    def folders(self, cell: str) -> list[Path]:
        """Return the folders of the cell's job, one per generation."""
        place = self.place(cell)
        return sorted((place.jobs / "held" / names.slug(self.run_name(cell))).glob(place.folders))

    def let_end(self, cell: str) -> None:
        for folder in self.folders(cell):
            if not (folder / "go").exists():
                (folder / "go").touch()

    def reports(self, cell: str) -> list[str]:
        """Return the lines that the job's processes have written about themselves."""
        return [
            line
            for folder in self.folders(cell)
            if (folder / "reports.txt").exists()
            for line in (folder / "reports.txt").read_text().splitlines()
        ]

    def starts(self, cell: str) -> int:
        return sum(line.startswith("start ") for line in self.reports(cell))

    def task(self, cell: str) -> TaskState | None:
        """Return the task's state; None before there is one, or while Airflow's API is unavailable."""
        try:
            found = self.api.tasks(self.dag_of[cell], cell)
        except ModelwayError:
            # Airflow's API is unavailable, or the run is deleted.
            return None
        return found[0] if found else None

    def states(self) -> dict[str, str | None]:
        """Return the state of each run's task, in one request; nothing while Airflow's API is unavailable."""
        try:
            found = self.api.call("GET", "/dags/~/dagRuns/~/taskInstances", params=NEWEST)
        except ModelwayError:
            return {}
        return {each["dag_run_id"]: each["state"] for each in found["task_instances"]}

    def run_states(self) -> dict[str, str]:
        """Return the state of each run, in one request; nothing while Airflow's API is unavailable."""
        try:
            found = self.api.call("GET", "/dags/~/dagRuns", params=NEWEST)
        except ModelwayError:
            return {}
        return {each["dag_run_id"]: each["state"] for each in found["dag_runs"]}

    def unfinished(self, cells: Iterable[str]) -> dict[str, list[str]]:
        """Return what the backend and the machine have left of each cell's job."""
        # In a container the folder's path begins elsewhere.
        places = {cell: f"/held/{names.slug(self.run_name(cell))}/" for cell in cells}
        left = {
            cell: [each.name for each in self.place(cell).backend.unfinished(run=self.run_name(cell))]
            for cell in places
        }
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            for cell, place in places.items():
                if place in words:
                    left[cell].append(f"process {process.pid}")
        return left

    def log(self, cell: str) -> str:
        """Return what is known of a cell, with the ends of the logs of all attempts."""
        state = f"run {self.run_states().get(cell)}, {self.task(cell)}"
        lines = [f"{state}, reports {self.reports(cell)}, submits {self.submits(cell)}"]
        folder = self.airflow.folder / "logs" / f"dag_id={self.dag_of[cell]}" / f"run_id={cell}" / "task_id=train"
        for path in sorted(folder.glob("attempt=*")):
            lines += [f"--- {path.name}", path.read_text(errors="replace")[-3000:]]
        return "\n".join(lines)

    def cancel_left(self, cell: str) -> None:
        """Stop what a cell has left, so that it is in the way of no other."""
        backend = self.place(cell).backend
        for handle in backend.unfinished(run=self.run_name(cell)):
            backend.cancel(handle)

    def logs(self, cells: Iterable[str]) -> str:
        return "\n".join(f"{cell}: {self.log(cell)}" for cell in cells)

    def xcom(self, cell: str) -> Any:
        return self.api.xcom(self.dag_of[cell], cell, "train")

    # What users do

    def mark(self, cell: str, state: str) -> None:
        """Mark the task as failed or success."""
        path = f"/dags/{self.dag_of[cell]}/dagRuns/{cell}/taskInstances/train"
        self.api.call("PATCH", path, json={"new_state": state})

    def clear(self, cell: str) -> None:
        """Clear the task."""
        given = {"dry_run": False, "dag_run_id": cell, "task_ids": ["train"], "only_failed": False}
        self.api.call("POST", f"/dags/{self.dag_of[cell]}/clearTaskInstances", json=given)

    def delete(self, cell: str) -> None:
        """Mark the run as failed and delete it; one that runs cannot be deleted."""
        path = f"/dags/{self.dag_of[cell]}/dagRuns/{cell}"
        self.api.call("PATCH", path, json={"state": "failed"})
        self.api.call("DELETE", f"/dags/{self.dag_of[cell]}/dagRuns/{cell}")

    # Faults

    def kill_component(self, component: str, *, with_children: bool) -> None:
        """End a part of Airflow with SIGKILL; with its children, but not with tasks' jobs, as a container ends."""
        process = self.airflow.processes[component]
        family = psutil.Process(process.pid).children(recursive=True) if with_children else []
        process.kill()
        for child in family:
            if child.is_running() and not child.cwd().startswith(str(self.places["matrix"].jobs)):
                child.kill()
        process.wait()

    def bring_back(self, component: str) -> None:
        """Start a killed part again, as whoever runs Airflow would."""
        self.airflow.start_component(component)
        if component == "api-server":
            wait_for(self._answers, seconds=240, what=lambda: "the api-server's answer")

    def _answers(self) -> bool:
        try:
            self.api.call("GET", "/monitor/health")
        except EndpointNotReady:
            return False
        return True


def kill_worker(runner: int) -> None:
    """End the process of a task and the worker that watches it."""
    _worker_of(runner).kill()
    psutil.Process(runner).kill()


def end_worker(runner: int) -> None:
    """Request the worker that watches a task to end, as a pod is that has to go."""
    _worker_of(runner).terminate()


def _worker_of(runner: int) -> psutil.Process:
    parent = psutil.Process(runner).parent()
    assert parent is not None
    assert "LocalExecutor" in " ".join(parent.cmdline()), parent.cmdline()
    return parent


def kill_task_process(runner: int) -> None:
    psutil.Process(runner).kill()


@contextmanager
def matrix_lab(
    root: Path, *, place: Place, parts_die: bool, others: Mapping[str, Place] | None = None
) -> Iterator[MatrixLab]:
    """Start an Airflow whose one task trains at that place.

    :param others: DAG id → place of more DAGs
    :param parts_die: whether its parts are killed, and see it of one another soon
    """
    home, seam = with_database(root / "home"), root / "seam"
    seam.mkdir(parents=True)
    shutil.copytree(MATRIX / "dags", root / "dags")
    (root / "models").mkdir()
    package = root / "code.zip"
    write_code_package(folder=MATRIX / "code" / "held", to=package)
    code = ArtifactStore((home / "artifacts").as_uri()).put(package, model="held")
    places = {"matrix": place, **(others or {})}
    given = {"model": "held", "module": "held.py", **code.to_dict()}
    jobs = {dag_id: {"code": given, **each.options} for dag_id, each in places.items()}
    environment = {
        **{f"AIRFLOW__{name}": value for name, value in (SETTINGS | (IMPATIENT if parts_die else {})).items()},
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "MODELWAY_MODELS": str(root / "models"),
        "MATRIX_SEAM": str(seam),
        "MATRIX_JOBS": json.dumps(jobs),
        "MATRIX_PATIENCE": str(PATIENCE_SECONDS),
        "PYTHONPATH": os.pathsep.join([str(MATRIX / "seam"), str(REPOSITORY / "plugins")]),
    }
    for each in places.values():
        environment |= each.environment
    airflow = LocalAirflow(home=home, repository=REPOSITORY, environment=environment)
    with airflow, nullcontext() if parts_die else kept_running(airflow):
        api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
        for dag_id in (*places, "matrix-timeout"):
            api.wait_for_dag(dag_id)
            api.unpause(dag_id)
        yield MatrixLab(airflow=airflow, api=api, seam=seam, places=places)


def require_killable_cluster() -> None:
    """Skip the test where the cluster is another's than that of ../shared/cluster; on CI it fails."""
    if not CLUSTER.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{CLUSTER}, which can start the cluster's API server again, is not there")


def restart_kubernetes_api() -> None:
    """End the cluster's API server with SIGKILL and start it again, as ../shared/cluster does."""
    pid = Path(os.environ["KUBECONFIG"]).parent / "kube-apiserver.pid"
    server = psutil.Process(int(pid.read_text()))
    server.kill()
    # Its port must be free before the next one listens there.
    psutil.wait_procs([server], timeout=60)
    pid.unlink()
    # It must not become this process's child: whoever stops the Airflow stops all that is below, and the cluster stays.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        subprocess.run([CLUSTER, "up"], check=True, capture_output=True)
    finally:
        adopt_orphans()
