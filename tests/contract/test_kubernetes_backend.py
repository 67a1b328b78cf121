"""Jobs on a real cluster: found again, followed, cancelled, and every failure distinguished."""

import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from modelway.backends.base import JOB_IMAGE, Handle, Job, JobState
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.errors import CapabilityMissing, DigestMismatch, NotWritable, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.agent.usage import usage_in
from modelway.job.contract import read_events, recorded_checkpoints

from tests.job_folders import ended, go, starts, store_code, store_text, succeeded, wait_for
from tests.kubernetes_cluster import kubectl, on, own_namespace, token_client

SECONDS = 90
MODELS = Path(__file__).parents[2] / "include" / "models"

#: says that it runs, then waits until ``go`` appears in its output folder
WAITS = """
import time
def train(job):
    with open(job.folder / 'starts.txt', 'a') as file: file.write('x')
    print('waiting', flush=True)
    while not (job.output / 'go').exists():
        time.sleep(0.05)
    with job.checkpoint(step=1) as path: path.write_text('done')
"""
#: one checkpoint a step; waits after the second, and after the third, until ``go`` appears
STEPS = """
import time
def train(job):
    found = job.resume_from()
    for step in range((found.step if found else 0) + 1, 5):
        with job.checkpoint(step=step) as path: path.write_text(str(step))
        while step in (2, 3) and not (job.output / 'go').exists():
            time.sleep(0.05)
"""


@pytest.fixture
def name():
    return "kubernetes"


def begun(backend, handle):
    wait_for(lambda: "waiting" in backend.logs(handle)[0], seconds=SECONDS, what="the job's first line")


def objects(namespace, handle):
    selector = f"modelway.dev/try={handle.name}"
    found = json.loads(kubectl("get", "jobs,pods,services", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def is_over(found):
    status = found.get("status") or {}
    ended = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
    return bool(ended & {"Complete", "Failed"}) or status.get("phase") in ("Succeeded", "Failed")


def test_a_job_runs_to_its_end(backend, jobs, namespace, tmp_path):
    code = (
        "import json, os\ndef train(job):\n    print('hello')\n"
        "    try:\n        open(job.folder / 'inputs' / 'checkpoint', 'a')\n"
        "    except OSError as error: print('not written:', error.strerror)\n"
        "    with job.checkpoint(step=1) as path:\n"
        "        path.write_text(json.dumps([job.params, job.seed, job.start_from.read_text(), os.getuid()]))\n"
    )
    given = store_text(tmp_path / "input", "before")
    handle = jobs(code, params={"lr": 0.1}, seed=4, inputs={"checkpoint": given})
    status = succeeded(backend, handle, seconds=SECONDS)
    assert status.seconds > 0
    assert status.peak_memory_bytes > 1_000_000
    (checkpoint,) = recorded_checkpoints(backend.folder(handle))
    assert json.loads(checkpoint.path.read_text()) == [{"lr": 0.1}, 4, "before", os.geteuid() or 1000]
    assert re.search("hello\nnot written: (Read-only file system|Permission denied)\n", backend.logs(handle)[0])
    stored, seen = Path(given.uri.removeprefix("file://")), backend.folder(handle) / "inputs" / "checkpoint"
    assert stored.stat().st_dev != seen.stat().st_dev or stored.samefile(seen), "an input is not copied"
    assert stored.stat().st_uid == os.geteuid(), "what is the store's does not become the job's"
    assert Handle.from_dict(json.loads(json.dumps(handle.to_dict()))) == handle
    (pod,) = (each for each in objects(namespace, handle) if each["kind"] == "Pod")
    (container,) = pod["status"]["containerStatuses"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", status.image_digest)
    assert container["imageID"].endswith(status.image_digest)
    assert usage_in(backend.folder(handle))[0] > 0


def test_a_running_job_is_adopted_and_a_finished_one_too(backend, jobs, run, namespace, client, tmp_path):
    handle = jobs(WAITS)
    begun(backend, handle)
    other = KubernetesBackend(home=tmp_path / "other", client=client)
    assert jobs(WAITS, backend=other) == handle
    assert backend.unfinished(run=run) == [handle]
    go(backend, handle)
    succeeded(backend, handle, seconds=SECONDS)
    kubectl("delete", "job", "-n", namespace, handle.name)
    assert jobs(WAITS, backend=other) == handle, "its end is known when the cluster has forgotten it"
    assert starts(backend, handle) == 1
    assert backend.unfinished(run=run) == []


def test_submits_at_the_same_time_start_one_job(jobs, backend, run, client, options, tmp_path):
    code = store_code(tmp_path / "code", WAITS)
    job = Job(model="tiny", run=run, key="train", stage="train", action="train", module="tiny.py", code=code)
    handles = []

    def submit(number):
        one = KubernetesBackend(home=tmp_path / f"home-{number}", client=client)
        handles.append(one.submit(one.build_request(job, options)))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handles) == 4
    assert len(set(handles)) == 1
    begun(backend, handles[0])
    go(backend, handles[0])
    succeeded(backend, handles[0], seconds=SECONDS)
    assert starts(backend, handles[0]) == 1


def test_a_submit_that_was_cut_off_is_finished_by_the_next_one(backend, jobs, monkeypatch, namespace):
    created = backend.api.create

    def cut_off(manifest):
        created(manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(backend.api, "create", cut_off)
    with pytest.raises(KeyboardInterrupt):
        jobs(WAITS)
    monkeypatch.undo()
    handle = jobs(WAITS)
    assert handle.attempt == 1
    begun(backend, handle)
    go(backend, handle)
    succeeded(backend, handle, seconds=SECONDS)
    assert starts(backend, handle) == 1


def test_a_cancelled_job_leaves_nothing_and_can_be_asked_for_again(backend, jobs, namespace):
    handle = jobs(WAITS)
    begun(backend, handle)
    backend.cancel(handle)
    assert objects(namespace, handle) == []
    status = backend.describe(handle)
    assert (status.state, status.reason) == (JobState.CANCELLED, "the job was cancelled")
    backend.cancel(handle)
    assert backend.describe(handle) == status
    again = jobs(WAITS)
    assert again.attempt == handle.attempt + 1
    begun(backend, again)
    go(backend, again)
    succeeded(backend, again, seconds=SECONDS)


def test_a_pod_that_is_deleted_is_reported_and_the_next_attempt_continues_from_the_checkpoint(
    backend, jobs, options, namespace, monkeypatch
):
    monkeypatch.setattr("modelway.backends.kubernetes.status.SETTLE_SECONDS", 2.0)
    options = on(options, grace_seconds=2)
    handle = jobs(STEPS, options=options)
    wait_for(lambda: len(recorded_checkpoints(backend.folder(handle))) == 2, seconds=SECONDS, what="two checkpoints")
    wait_for(lambda: backend.describe(handle).state is JobState.RUNNING, seconds=SECONDS, what="that it runs")
    kubectl("delete", "pod", "-n", namespace, "-l", f"modelway.dev/try={handle.name}", "--wait=false")
    status = ended(backend, handle, seconds=SECONDS)
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, True)
    assert "was deleted while it ran" in status.reason
    backend.cancel(handle)
    # A Job that is over may be there until kubernetes.keep ends it.
    left = [each for each in objects(namespace, handle) if not is_over(each)]
    assert left == [], "nor the pod that the cluster put in its place"
    go(backend, handle)
    again = jobs(STEPS, options=options)
    assert again.attempt == handle.attempt + 1
    assert backend.folder(again) == backend.folder(handle)
    succeeded(backend, again, seconds=SECONDS)
    # The pod in the place of the first may have gone on until the try was given up.
    assert re.search(r"resuming from checkpoint train-00000[23] ", backend.logs(again)[0])
    assert [each.step for each in recorded_checkpoints(backend.folder(again))] == [1, 2, 3, 4]


def test_other_parameters_end_the_job_with_the_old_ones(backend, jobs, namespace):
    first = jobs(WAITS, params={"lr": 0.1})
    begun(backend, first)
    second = jobs(WAITS, params={"lr": 0.2})
    assert backend.folder(second) != backend.folder(first)
    assert second.name != first.name
    assert backend.describe(first).state is JobState.CANCELLED
    assert objects(namespace, first) == []


def test_the_log_is_read_on_from_where_it_was_left(backend, jobs, client, tmp_path):
    code = (
        "import time\ndef train(job):\n    print('first')\n    print('sec', end='', flush=True)\n"
        "    while not (job.output / 'go').exists(): time.sleep(0.05)\n"
        "    print('ond')\n    print('x' * 3_000_000)\n    print('last without an end', end='')\n"
    )
    handle = jobs(code)
    text, offset = wait_for(lambda: (found := backend.logs(handle))[0] and found, seconds=SECONDS, what="a line")
    assert (text, offset) == ("first\n", 6), "a line that is not whole yet is kept back"
    go(backend, handle)
    succeeded(backend, handle, seconds=SECONDS)
    other = KubernetesBackend(home=tmp_path / "other", client=client)
    read = ""
    while text:
        text, offset = other.logs(handle, offset=offset)
        read += text
    assert read.removesuffix("\n") == "second\n" + "x" * 3_000_000 + "\nlast without an end"


def test_a_damaged_input_is_refused_and_nothing_starts(backend, jobs, run, tmp_path):
    given = store_text(tmp_path / "input", "checkpoint")
    os.truncate(given.uri.removeprefix("file://"), 2)
    with pytest.raises(DigestMismatch, match="(?i)run the stage that made it again"):
        jobs(WAITS, inputs={"checkpoint": given})
    assert backend.unfinished(run=run) == []


def test_a_succeeded_job_is_done_anew_after_a_clear_and_old_ones_are_removed(backend, jobs, options):
    code = "def train(job):\n    print(1)\n    with job.checkpoint(step=1) as path: path.write_text('x')\n"
    first = jobs(code, model="aged")
    succeeded(backend, first, seconds=SECONDS)
    second = jobs(code, model="aged", clear_number=1)
    assert backend.folder(second) != backend.folder(first)
    assert second.name != first.name
    succeeded(backend, second, seconds=SECONDS)
    assert jobs(code, model="aged", clear_number=1) == second
    # Both generations end up old: garbage collection leaves their logs and reports.
    discard = partial(backend.discard_old, model="aged", storage=options.storage)
    assert discard(before=datetime.now(UTC) - timedelta(days=1)) == 0
    later = datetime.now(UTC) + timedelta(days=1)
    freed = discard(before=later, dry_run=True)
    assert discard(before=later) == freed > 0
    for handle in (first, second):
        assert {"code", "inputs", "output", "runner"}.isdisjoint(path.name for path in backend.folder(handle).iterdir())
        assert backend.describe(handle).state is JobState.SUCCEEDED
        assert backend.logs(handle)[0]


FAILS = {
    "raises": ("def train(job):\n    1 / 0\n", FailureKind.BAD_EXIT, "ZeroDivisionError: division by zero (tiny.py:2"),
    "exits": ("import os\ndef train(job):\n    os._exit(3)\n", FailureKind.BAD_EXIT, "ended with exit status 3"),
    "killed": (
        f"import os\ndef train(job):\n    os.kill(os.getpid(), {signal.SIGKILL})\n",
        FailureKind.KILLED,
        "was killed by SIGKILL",
    ),
    "memory": (
        "import time\ndef train(job):\n    data = bytearray(b'x') * (400 << 20)\n    time.sleep(60)\n",
        FailureKind.OUT_OF_MEMORY,
        "the limit is 200 MiB",
    ),
}


@pytest.mark.parametrize("case", FAILS)
def test_what_the_code_did_is_reported(backend, jobs, case):
    code, kind, words = FAILS[case]
    handle = jobs(code)
    status = ended(backend, handle, seconds=SECONDS)
    assert (status.state, status.failure) == (JobState.FAILED, kind), status
    assert words in status.reason
    if case == "memory":
        assert status.reason.startswith("out of memory: ")
        assert not status.retryable


def test_a_job_that_takes_too_long_is_stopped(backend, jobs, options):
    handle = jobs(WAITS, options=replace(options, timeout_seconds=2))
    status = ended(backend, handle, seconds=SECONDS)
    assert (status.failure, status.reason) == (FailureKind.DEADLINE, "stopped after its timeout of 2 seconds")


def test_an_image_that_cannot_be_had_is_reported(backend, jobs, options):
    wrong = on(replace(options, image="nowhere.invalid/none:1"), image_pull_policy="Never")
    handle = jobs(WAITS, options=wrong)
    status = ended(backend, handle, seconds=SECONDS)
    assert status.failure is FailureKind.IMAGE_PULL
    assert "nowhere.invalid/none:1" in status.reason


def test_an_image_without_python_is_reported(backend, jobs, options):
    handle = jobs(WAITS, options=replace(options, image="local/pause:1"))
    status = ended(backend, handle, seconds=SECONDS)
    assert status.failure is FailureKind.INIT
    assert "python3" in status.reason


def test_a_job_that_no_node_takes_is_reported_in_the_schedulers_words(backend, jobs, options):
    handle = jobs(WAITS, options=on(options, node_selector={"disk": "of-gold"}, start_within_seconds=6))
    words = "didn't match"
    waiting = wait_for(
        lambda: (found := backend.describe(handle).waiting) and words in found and found, seconds=30, what="the reason"
    )
    status = ended(backend, handle, seconds=SECONDS)
    assert status.failure is FailureKind.UNSCHEDULABLE
    assert words in status.reason
    assert re.search(r"^0/\d+ nodes are available", waiting)


def test_a_secret_that_is_missing_is_reported(backend, jobs, options, monkeypatch):
    monkeypatch.setattr("modelway.backends.kubernetes.status.INIT_SECONDS", 3.0)
    handle = jobs(WAITS, options=on(options, env={"TOKEN": {"secret": "not-there", "key": "token"}}))
    status = ended(backend, handle, seconds=SECONDS)
    assert status.failure is FailureKind.INIT
    assert 'secret "not-there" not found' in status.reason


def test_a_quota_that_is_used_up_is_reported(client, backend, jobs, options):
    with own_namespace("quota") as namespace:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
        kubectl("apply", "-n", namespace, "-f", "-", given={**quota, "spec": {"hard": {"memory": "10Mi"}}})
        handle = jobs(WAITS, options=on(options, namespace=namespace))
        status = ended(backend, handle, seconds=SECONDS)
        assert (status.failure, status.retryable) == (FailureKind.QUOTA, True)
        assert "exceeded quota: small" in status.reason


def test_what_a_service_account_may_not_do_is_reported(client, jobs, options, tmp_path):
    with own_namespace("powerless") as namespace:
        kubectl("create", "serviceaccount", "powerless", "-n", namespace)
        powerless = token_client(client, namespace, "powerless")
        backend = KubernetesBackend(home=tmp_path / "home", client=powerless)
        with pytest.raises(SubmitFailed, match="cannot create resource") as refused:
            jobs(WAITS, backend=backend, options=on(options, namespace=namespace))
        assert refused.value.kind is FailureKind.FORBIDDEN
        assert not refused.value.retryable


def test_a_request_that_is_invalid_is_reported(jobs, options):
    patch = {"spec": {"template": {"spec": {"restartPolicy": "Sometimes"}}}}
    with pytest.raises(SubmitFailed, match="Sometimes") as refused:
        jobs(WAITS, options=on(options, patch=patch))
    assert refused.value.kind is FailureKind.REFUSED


def test_an_api_server_that_does_not_answer_is_reported(backend, jobs, options, tmp_path):
    from kubernetes import client

    handle = jobs(WAITS)
    configuration = client.Configuration()
    configuration.host, configuration.retries = "https://127.0.0.1:9", False
    away = KubernetesBackend(home=tmp_path / "away", client=client.ApiClient(configuration), version=(1, 20))
    status = away.describe(handle)
    assert status.state is JobState.UNKNOWN
    assert "did not answer" in status.reason
    with pytest.raises(SubmitFailed) as refused:
        jobs(WAITS, backend=away, key="other")
    assert (refused.value.kind, refused.value.retryable) == (FailureKind.UNREACHABLE, True)
    assert backend.describe(handle).state in (JobState.PENDING, JobState.RUNNING)


@pytest.mark.alone_on_node
def test_a_job_of_higher_priority_takes_the_place(client, backend, jobs, options):
    cores = float(
        json.loads(kubectl("get", "node", options.storage["node"]["name"], "-o", "json"))["status"]["allocatable"][
            "cpu"
        ]
    )
    low, high = f"low-{os.getpid()}", f"high-{os.getpid()}"
    for name, value in ((low, 1000), (high, 100_000)):
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        kubectl("apply", "-f", "-", given={**kind, "value": value})
    try:
        large = on(replace(options, cpu=cores * 0.6), grace_seconds=2)
        first = jobs(WAITS, options=on(large, priority_class=low))
        begun(backend, first)
        wait_for(lambda: backend.describe(first).state is JobState.RUNNING, seconds=SECONDS, what="that it runs")
        second = jobs(WAITS, options=on(large, priority_class=high), key="other")
        status = ended(backend, first, seconds=SECONDS)
        assert (status.failure, status.retryable) == (FailureKind.PREEMPTED, True), status
        backend.cancel(first)
        begun(backend, second)
    finally:
        kubectl("delete", "priorityclass", low, high)


def test_training_on_two_nodes_gives_the_losses_of_one(backend, jobs, options, namespace):
    says = "_train = train\ndef train(job):\n    print('I am', job.rank, 'of', job.world_size)\n    _train(job)\n"
    code = (MODELS / "digits" / "digits.py").read_text() + says
    asked = {"files": {"digits.py": code}, "module": "digits.py", "seed": 1}
    given = {"epochs": 2, "lr": 0.003, "batch_size": 64}
    with_torch = replace(options, image=JOB_IMAGE, memory_bytes=1 << 30, cpu=0.5)
    handles = [
        jobs("", params=given, options=replace(with_torch, nodes=nodes), key=f"nodes-{nodes}", **asked)
        for nodes in (1, 2)
    ]
    statuses = [succeeded(backend, handle, seconds=240) for handle in handles]
    assert statuses[0].image_digest == statuses[1].image_digest is not None
    accounts = [list(backend.folder(handle).glob("try-1/usage-*.json")) for handle in handles]
    assert sorted(path.name.split("-")[1] for path in accounts[1]) == ["0", "1"]
    (cpu, _), reported = usage_in(backend.folder(handles[1])), [json.loads(path.read_text()) for path in accounts[1]]
    assert cpu == pytest.approx(sum(each["cpu_seconds"] for each in reported), abs=1e-3)
    assert min(each["cpu_seconds"] for each in reported) > 0.5, "each node has imported torch"
    one, two = (
        [event["value"] for event in read_events(backend.folder(handle)) if event["kind"] == "metric"]
        for handle in handles
    )
    assert len(one) == 2
    assert two == pytest.approx(one, rel=1e-4)
    text, _ = backend.logs(handles[1])
    assert {"[node 0] I am 0 of 2", "[node 1] [rank 1/2] I am 1 of 2"} <= set(text.splitlines())
    assert backend.logs(handles[1]) == (text, len(text.encode())), "whoever reads later reads the same"
    assert backend.logs(handles[0])[0].count("[node") == 0
    assert [each["kind"] for each in objects(namespace, handles[1])].count("Service") == 1


def test_a_node_that_fails_ends_the_others(backend, jobs, options, namespace):
    code = (
        "import os, time\nfrom torch import distributed\ndef train(job):\n"
        "    distributed.init_process_group('gloo')\n"
        "    if job.rank == 1: raise ValueError('rank one has had enough')\n"
        "    distributed.barrier()\n    time.sleep(600)\n"
    )
    handle = jobs(code, options=replace(options, image=JOB_IMAGE, memory_bytes=1 << 30, cpu=0.5, nodes=2))
    status = ended(backend, handle, seconds=120)
    assert status.failure is FailureKind.BAD_EXIT
    assert "rank one has had enough" in status.reason
    backend.cancel(handle)
    pods = [each for each in objects(namespace, handle) if each["kind"] == "Pod"]
    assert [each for each in pods if each["status"]["phase"] in ("Pending", "Running")] == []


def test_many_jobs_are_watched_and_not_asked_for(backend, jobs, options):
    handles = [jobs(WAITS, key=f"train-{number}") for number in range(5)]
    for handle in handles:
        backend.describe(handle)
    for handle in handles:
        begun(backend, handle)
        wait_for(lambda one=handle: backend.describe(one).state is JobState.RUNNING, seconds=SECONDS, what="it runs")
    asked = []
    kept = backend.api.jobs, backend.api.pods
    backend.api.jobs = lambda *given: asked.append(given) or kept[0](*given)
    backend.api.pods = lambda *given: asked.append(given) or kept[1](*given)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert {backend.describe(handle).state for handle in handles} == {JobState.RUNNING}
    assert asked == []
    for handle in handles:
        go(backend, handle)
    for handle in handles:
        succeeded(backend, handle, seconds=SECONDS)
    assert asked == []


def test_what_cannot_be_given_is_refused_before_anything_is_made(backend, options, tmp_path):
    job = Job(model="tiny", run="r", key="train", stage="train", action="train")
    with pytest.raises(CapabilityMissing, match="needs a place for the jobs' folders"):
        backend.build_request(job, replace(options, storage=None))
    elsewhere = {"path": "/modelway", "claim": "data", "worker_path": str(tmp_path / "not-mounted")}
    with pytest.raises(NotWritable, match="does not see the storage"):
        backend.submit(backend.build_request(job, replace(options, storage=elsewhere)))
