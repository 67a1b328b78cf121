"""The deployment of docker-compose.yaml, run as docs/operations.md says, with each of its parts killed under load.

One start for all of it: each test continues from where the one before has left the deployment. `make deployment` builds
the whole image and kills one part after the other; `make test` runs the same with the packages of its own environment
in place of the image's, with fewer models, and kills some parts at the same time.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from airflow_image import mounted_image, whole_image
from compose_deployment import REPOSITORY, Deployment, documented
from modelway.localairflow.rest import AirflowApi
from older_lineage import MODEL as OLDER_MODEL
from older_lineage import make_older_lineage

from tests.docker_engine import require_engine

pytestmark = [pytest.mark.system, pytest.mark.cluster, pytest.mark.timeout(3600)]
MODEL = "digits"
WHOLE = os.environ.get("MODELWAY_DEPLOYMENT") == "whole"
LOADS = [f"load-{number}" for number in range(8 if WHOLE else 4)]
#: killed one group after the other while the loads train, and back before the next one
KILLED = (
    [["worker"], ["redis"], ["postgres"], ["registry"], ["api-server"], ["scheduler"], ["dag-processor"], ["triggerer"]]
    if WHOLE
    else [["worker"], ["redis", "registry", "scheduler", "triggerer"], ["postgres", "api-server", "dag-processor"]]
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The deployment with two workers, made by the documented commands."""
    require_engine("python:3.11-slim-bookworm")
    for script in ("tests/system/install_compose.sh", "tests/system/compose/pull_images.sh"):
        if subprocess.run(["sh", script], cwd=REPOSITORY).returncode and os.environ.get("CI") != "true":
            pytest.skip(f"{script} did not succeed")
    image = whole_image() if WHOLE else mounted_image()
    folder = tmp_path_factory.mktemp("compose") / "clone"
    folder.mkdir()
    found = Deployment(folder, image=image)
    try:
        start(found)
        yield found
    finally:
        found.remove()
        shutil.rmtree(folder)


def start(deployment: Deployment) -> None:
    """Start it with two workers, on the lineage of an earlier modelway."""
    deployment.run("sh include/compose/make_env.sh")
    deployment.run("docker compose up --detach --wait postgres")
    password = deployment.secrets["LINEAGE_DB_PASSWORD"]
    make_older_lineage(f"postgresql://lineage:{password}@{deployment.address('postgres')}/lineage")
    for command in documented("On one machine"):
        deployment.run(command.replace("--wait", "--wait --scale worker=2"))


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> AirflowApi:
    return deployment.api()


def finished(api: AirflowApi, dag_id: str, run_id: str) -> bool:
    """Return whether a run is over; it must not fail."""
    state = api.run_state(dag_id, run_id)
    if state == "failed":
        failed = [task for task in api.tasks(dag_id, run_id) if task.state in ("failed", "upstream_failed")]
        logs = [api.log(dag_id, run_id, task.task_id, try_number=task.try_number)[-3000:] for task in failed[:1]]
        raise AssertionError(f"{dag_id} failed: {failed}\n{logs}")
    return state == "success"


def begin(api: AirflowApi, dag_id: str) -> str:
    api.wait_for_dag(dag_id, seconds=600)
    api.unpause(dag_id)
    return api.trigger(dag_id)


def trains(api: AirflowApi, dag_id: str, run_id: str) -> bool:
    """Return whether the job of a load runs: its task follows it, or waits for it in the triggerer."""
    return any(task.task_id == "train" and task.state in ("running", "deferred") for task in api.tasks(dag_id, run_id))


def answer(deployment: Deployment) -> httpx.Response:
    """Ask the model through its published gateway."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.0] * 64}
    url = f"http://127.0.0.1:{deployment.first}/v2/models/{MODEL}/infer"
    return httpx.post(url, json={"inputs": [tensor]}, timeout=30)


def serves(deployment: Deployment, *, version: str = "1") -> bool:
    found = answer(deployment)
    return found.status_code == 200 and found.headers.get("x-model-version") == version


@dataclass
class Callers:
    """Asks the model again and again, and keeps what did not succeed."""

    deployment: Deployment
    asked: int = 0
    failed: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Callers":
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.5):
            self.asked += 1
            try:
                if (found := answer(self.deployment)).status_code != 200:
                    self.failed.append(f"{found.status_code} {found.text[:200]}")
            except httpx.HTTPError as error:
                self.failed.append(f"{type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def triggered(api: AirflowApi) -> str:
    """The run that brings the model from code to traffic, triggered through the API."""
    return begin(api, MODEL)


@pytest.fixture(scope="module")
def served(deployment: Deployment, api: AirflowApi, triggered: str) -> str:
    """The same when it has ended."""
    deployment.wait(lambda: finished(api, MODEL, triggered), what="the run of digits", seconds=1500)
    return triggered


@pytest.mark.usefixtures("triggered")
def test_of_two_attempts_that_follow_one_job_on_two_workers_one_result_counts(
    deployment: Deployment, api: AirflowApi
) -> None:
    run_id = begin(api, "followed")
    claim = "cat /srv/modelway/followers/*followed-train*"
    deployment.wait(lambda: deployment.shell(claim).startswith("1 "), what="a task that follows its job")
    task = api.call("GET", f"/dags/followed/dagRuns/{quote(run_id)}/taskInstances/train")["id"]
    (orphan,) = deployment.processes("worker", f"airflow worker -- {task}")
    # The retry goes to the other worker: this one takes no more tasks.
    host = deployment.run(f"docker exec {orphan.container} hostname").strip()
    deployment.run(f"docker exec {orphan.container} airflow celery remove-queue -q default -H celery@{host}")
    # The task's own process runs on without the one that speaks to Airflow for it.
    os.kill(orphan.parent, signal.SIGKILL)
    followed_by_both = False

    def is_followed_by_the_retry() -> bool:
        nonlocal followed_by_both
        is_left = orphan.is_alive()
        number = deployment.shell(claim).partition(" ")[0]
        followed_by_both |= is_left and number == "1"
        return number == "2"

    deployment.wait(is_followed_by_the_retry, what="the second attempt to follow the job")
    deployment.shell("touch /srv/modelway/followed-ends")
    assert followed_by_both, "the first attempt had ended before the second followed the job"
    deployment.wait(lambda: not orphan.is_alive(), what="the first attempt to end")
    deployment.wait(lambda: finished(api, "followed", run_id), what="the run", seconds=1500)
    assert deployment.shell("find /srv/modelway/jobs/followed -type d -name 'try-*' | wc -l").strip() == "1"
    (train,) = (task for task in api.tasks("followed", run_id) if task.task_id == "train")
    assert train.try_number == 2
    assert api.xcom("followed", run_id, "train")
    deployment.run(f"docker exec {orphan.container} airflow celery add-queue -q default -H celery@{host}")


def test_a_model_is_triggered_through_the_api_and_answers_through_the_gateway(
    deployment: Deployment, api: AirflowApi, served: str
) -> None:
    assert serves(deployment), answer(deployment).text
    where = {task.task_id: task.state for task in api.tasks(MODEL, served)}
    assert where["serve.promote"] == "success"


def test_secrets_are_random_and_private_and_only_pages_and_endpoints_are_published(deployment: Deployment) -> None:
    secrets = deployment.secrets
    assert (deployment.folder / ".env").stat().st_mode & 0o077 == 0
    words = [secrets[name] for name in secrets if name.endswith(("_PASSWORD", "_KEY", "_SECRET"))]
    assert len(words) == len(set(words)) == 8
    assert all(len(word) >= 40 for word in words)
    deployment.run("sh include/compose/make_env.sh")
    assert deployment.secrets == secrets
    published = {
        publisher["PublishedPort"]: (each["Service"], publisher["URL"])
        for each in deployment.containers()
        for publisher in each["Publishers"] or ()
        if publisher["PublishedPort"]
    }
    endpoints = {deployment.first + more: ("gateway", "127.0.0.1") for more in range(4)}
    assert published == {deployment.ui: ("api-server", "127.0.0.1"), **endpoints}


@pytest.mark.usefixtures("served")
def test_each_part_is_killed_while_models_train_and_nothing_is_lost(deployment: Deployment, api: AirflowApi) -> None:
    runs = {dag_id: begin(api, dag_id) for dag_id in LOADS}
    with Callers(deployment) as callers:
        deployment.wait(lambda: all(trains(api, *run) for run in runs.items()), what="all loads to train at once")
        for services in KILLED:
            deployment.kill(*services)
        deployment.shell("touch /srv/modelway/load-ends")
        for run in runs.items():
            deployment.wait(lambda run=run: finished(api, *run), what=f"the run {run}", seconds=1500)
    # The gateway was not killed: no caller saw anything of all that.
    assert callers.failed == []
    assert callers.asked > len(KILLED)
    for dag_id, run_id in runs.items():
        assert api.xcom(dag_id, run_id, "train"), f"{dag_id} has no checkpoint"


@pytest.mark.usefixtures("served")
def test_the_gateway_is_killed_and_serves_again_what_it_served(deployment: Deployment) -> None:
    deployment.kill("gateway")
    deployment.wait(lambda: serves(deployment), what="the endpoint to serve again")
    deployment.wait_healthy("gateway")


@pytest.mark.usefixtures("served")
def test_a_service_that_is_down_is_named_with_the_reason(deployment: Deployment) -> None:
    for command in documented("What to watch"):
        shown = deployment.run(command)
        assert MODEL in shown
        assert "answers" in shown
    deployment.run("docker compose stop --timeout 5 triggerer")
    check = "docker compose exec -T api-server python3 -S /opt/modelway/health.py triggerer || true"
    deployment.wait(
        lambda: "the triggerer is unhealthy: its last heartbeat" in deployment.run(check), what="the reason"
    )
    assert {each["Service"]: each["State"] for each in deployment.containers()}["triggerer"] == "exited"


def test_a_lineage_of_an_earlier_modelway_was_migrated_by_the_first_start(deployment: Deployment) -> None:
    assert "1" in deployment.run(f"docker compose exec -T api-server modelway versions {OLDER_MODEL}")


@pytest.mark.usefixtures("served")
def test_a_backup_brings_everything_back_and_an_upgrade_migrates_it(deployment: Deployment, api: AirflowApi) -> None:
    before = api.call("GET", f"/dags/{MODEL}/dagRuns")["total_entries"]
    for command in documented("Backup"):
        deployment.run(command)
    backup: Path = deployment.folder / "backup"
    assert backup.stat().st_mode & 0o077 == 0
    secrets = deployment.secrets
    (deployment.folder / ".env").unlink()
    restore = documented("Restore")[0].splitlines()
    for command in restore if WHOLE else restore[:1]:
        deployment.run(command)
    assert deployment.secrets == secrets
    if WHOLE:
        deployment.wait(lambda: serves(deployment), what="the endpoint to serve again")
        deployment.run("docker compose stop --timeout 60 && docker compose up --detach --wait postgres registry")
    # Airflow's database as an earlier Airflow left it.
    newest = deployment.schema("airflow")
    older = "docker compose run --rm --no-deps -T --entrypoint airflow migrate db downgrade --to-version 3.2.0 --yes"
    deployment.run(older)
    assert deployment.schema("airflow") != newest
    # The image of the new version, in the same start.
    deployment.run(f"docker image tag {deployment.image.name} modelway-airflow:next-{os.getpid()}")
    try:
        for command in documented("Upgrade"):
            deployment.run(command, AIRFLOW_IMAGE=f"modelway-airflow:next-{os.getpid()}")
        assert deployment.schema("airflow") == newest
        deployment.wait(lambda: serves(deployment), what="the endpoint to serve again")
        again = deployment.api()
        assert again.call("GET", f"/dags/{MODEL}/dagRuns")["total_entries"] == before
        assert "1" in deployment.run(f"docker compose exec -T api-server modelway versions {MODEL}")
    finally:
        deployment.run(f"docker image rm --force modelway-airflow:next-{os.getpid()}")


def test_without_its_secrets_nothing_starts(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "docker-compose.yaml", tmp_path)
    done = subprocess.run(["docker", "compose", "config"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "run sh include/compose/make_env.sh" in done.stderr
