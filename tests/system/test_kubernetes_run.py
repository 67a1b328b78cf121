"""The digits model, from code to a registered version, with every job on a real cluster."""

import json
import os
import shutil
import subprocess
import time
import uuid

import pytest
import yaml
from matrix_lab import REPOSITORY
from matrix_places import cluster_node, core_api
from registry import Registry, basic_auth, needs_registry

from tests.image_samples import built_here

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), needs_registry]

IMAGE = os.environ.get("MODELWAY_JOB_IMAGE", "modelway-job:0.1.0")
RUN_SECONDS = 600
#: what has a job, as the jobs' labels begin
TASKS = {
    *("train-warmup", "train-finetune", "evaluate-checkpoint", "freeze-freeze", "freeze-verify"),
    "serve-build-image",
}
#: the Secret with the login of the registry
LOGIN = "registry-login"


@pytest.fixture(scope="module")
def cluster():
    """A namespace for the jobs of this file, on a cluster whose node has the image."""
    from kubernetes import client

    node, core = cluster_node(), core_api()
    if not has_image() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no image {IMAGE}: make images")
    namespace = f"digits-{uuid.uuid4().hex[:8]}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    yield core, node, namespace
    core.delete_namespace(namespace)


def has_image() -> bool:
    return subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def registry(tmp_path_factory, cluster):
    """A registry that lets nobody in but who has the Secret."""
    from kubernetes import client

    core, _, namespace = cluster
    folder = tmp_path_factory.mktemp("registry")
    found = Registry(folder, auth=basic_auth(folder))
    login = {"auths": {found.host: {"username": "me", "password": "s3cret"}}}
    core.create_namespaced_secret(
        namespace,
        client.V1Secret(
            metadata=client.V1ObjectMeta(name=LOGIN),
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": json.dumps(login)},
        ),
    )
    yield found
    found.stop()


@pytest.fixture(scope="module")
def lab(request, tmp_path_factory, cluster, registry):
    """The model's run, which is over, on an Airflow."""
    _, node, namespace = cluster
    airflow = request.getfixturevalue("container_lab")
    root = tmp_path_factory.mktemp("digits")
    (root / "storage").mkdir()
    model = root / "digits"
    shutil.copytree(REPOSITORY / "include" / "models" / "digits", model)
    spec = yaml.safe_load((model / "model.yaml").read_text())
    spec["train"] |= {"backend": "kubernetes", "image": IMAGE}
    spec["evaluate"] |= {"image": IMAGE}
    spec["storage"] = {"node": {"name": node, "path": str(root / "storage")}}
    # The registry is on the node.
    patch = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    spec["kubernetes"] = {"namespace": namespace, "start_within": "5m", "push_secret": LOGIN, "patch": patch}
    spec["image"] = {"repository": f"{registry.host}/models/digits"}
    (model / "model.yaml").write_text(yaml.safe_dump(spec))
    # The whole folder at once: Airflow reads it meanwhile.
    model.rename(airflow.models / "digits")
    api, run_id = airflow.api, airflow.start("digits")
    until = time.monotonic() + RUN_SECONDS
    tasks: dict[str, str | None] = {}
    while tasks.get("serve.build_image") not in ("success", "failed", "upstream_failed", "skipped"):
        assert time.monotonic() < until, tasks
        time.sleep(1)
        tasks = {task.task_id: task.state for task in api.tasks("digits", run_id)}
    yield airflow, run_id, root / "storage"
    api.call("PATCH", f"/dags/digits/dagRuns/{run_id}", json={"state": "failed"})


def test_the_run_comes_to_a_registered_version(lab):
    airflow, run_id, _ = lab
    api = airflow.api
    tasks = api.tasks("digits", run_id)
    states = {f"{task.task_id}[{task.map_index}]": task.state for task in tasks}
    failed = [task for task in tasks if task.state == "failed"]
    logs = [api.log("digits", run_id, t.task_id, try_number=t.try_number, map_index=t.map_index) for t in failed]
    assert states["freeze.register[-1]"] == "success", (states, logs)
    lineage = airflow.lineage
    (version,) = lineage.versions("digits")
    assert version.number == 1
    assert version.metrics["accuracy"] >= 0.9
    assert lineage.aliases("digits")["candidate"] == 1


def test_every_job_ran_on_the_cluster_and_each_once(lab, cluster):
    from kubernetes import client

    core, _, namespace = cluster
    images = [
        each.image_id for pod in core.list_namespaced_pod(namespace).items for each in pod.status.container_statuses
    ]
    (digest,) = {image[image.index("sha256:") :] for image in images}
    recorded = lab[0].lineage.version("digits", 1).run.stages
    assert {stage.environment.image for stage in recorded if stage.environment} == {f"{IMAGE}@{digest}"}
    assert all(stage.cpu_seconds > 1 for stage in recorded), recorded
    jobs = client.BatchV1Api().list_namespaced_job(namespace).items
    found = [job.metadata.labels["modelway.dev/stage"] for job in jobs]
    assert {task for task in TASKS if any(label.startswith(task) for label in found)} == TASKS, found
    assert all(job.status.succeeded == 1 for job in jobs), [(job.metadata.name, job.status) for job in jobs]
    assert all(job.metadata.name.endswith("-1") for job in jobs), "no job needed a second attempt"


def test_a_pod_pushed_the_image_that_the_task_would_have(lab, tmp_path):
    airflow, run_id, storage = lab
    version = airflow.lineage.version("digits", 1)
    log = airflow.api.log("digits", run_id, "serve.build_image")
    (image,) = version.images
    assert image.digest == built_here(version.summary, tmp_path)
    assert f"image {image.digest} as {image.reference}" in log, log[-3000:]
    (folder,) = storage.glob("jobs/digits/*/serve-build-image-*")
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"s3cret" not in left + log.encode()


def test_the_jobs_logs_are_in_the_tasks_logs(lab):
    airflow, run_id, storage = lab
    (path,) = storage.glob("jobs/digits/*/train-warmup-*/g0/try-1/log-0.txt")
    printed = path.read_text().splitlines()
    assert sum("loss" in line for line in printed) > 1
    log = airflow.api.log("digits", run_id, "train.warmup").splitlines()
    assert [line for line in log if line in printed] == printed, "each line once, in the job's order"


def test_nothing_is_left_on_the_cluster(lab, cluster):
    from kubernetes import client

    core, _, namespace = cluster
    pods = core.list_namespaced_pod(namespace).items
    assert {pod.status.phase for pod in pods} == {"Succeeded"}, [(pod.metadata.name, pod.status.phase) for pod in pods]
    # Pods go with their jobs, and the cluster itself takes those away.
    assert all(pod.metadata.owner_references[0].kind == "Job" for pod in pods)
    assert all(job.spec.ttl_seconds_after_finished for job in client.BatchV1Api().list_namespaced_job(namespace).items)
    others = [core.list_namespaced_service(namespace), core.list_namespaced_persistent_volume_claim(namespace)]
    assert [each.metadata.name for found in others for each in found.items] == []
