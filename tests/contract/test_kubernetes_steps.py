"""What a process leaves that ends between two steps of a submit or a cancel, and what the next one makes of it."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from modelway.backends.base import Handle, Job, JobState, Options
from modelway.backends.kubernetes.attempts import AttemptRecord, handle_of
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.errors import NotWritable, SubmitFailed
from modelway.failures import FailureKind

from tests.job_folders import store_code, store_text, wait_for
from tests.kubernetes_in_memory import Cluster


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def connect(cluster, tmp_path):
    """Make a backend, as another process would have it."""

    def made():
        backend = KubernetesBackend(home=tmp_path / "home", version=(1, 30))
        backend.__dict__["api"] = cluster
        return backend

    return made


@pytest.fixture
def submit(connect, tmp_path):
    def asked(*, backend=None, folder=None, nodes=1, **fields):
        folder = folder or tmp_path / "storage"
        folder.mkdir(exist_ok=True)
        code = store_code(tmp_path / "source", "def train(job): ...\n")
        words = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", **fields}
        storage = {"path": "/modelway", "node": {"name": "node", "path": str(folder)}}
        options = Options(nodes=nodes, storage=storage, image="image")
        backend = backend or connect()
        return backend.submit(backend.build_request(Job(**words, module="tiny.py", code=code), options))

    return asked


def conclude(cluster, handle, kind):
    """Let the cluster say how a job ended."""
    for (found, _), one in cluster.objects.items():
        if found == "Job" and one["metadata"]["labels"]["modelway.dev/try"] == handle.name:
            one["status"] = {
                "conditions": [{"type": kind, "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
            }


def jobs(cluster):
    return sorted(name for kind, name in cluster.objects if kind == "Job")


def test_what_a_run_leaves_is_removed_where_its_spec_has_the_storage(cluster, submit, connect, tmp_path):
    given = store_text(tmp_path / "input", "before")
    stored = Path(given.uri.removeprefix("file://"))
    done, running = submit(inputs={"checkpoint": given}), submit(key="evaluate")
    (folder,) = (tmp_path / "storage" / "jobs").glob("*/*/train/g0")
    (folder / "output" / "large.bin").write_bytes(bytes(100_000))
    (folder / "try-1" / "log-0.txt").write_text("hello")
    storage = {"path": "/modelway", "node": {"name": "node", "path": str(tmp_path / "storage")}}
    assert connect().discard(model="tiny", run="r1", storage=storage) == 0, "no job is over"
    connect().cancel(done)
    assert connect().discard(model="tiny", run="r2", storage=storage) == 0
    assert connect().discard(model="tiny", run="r1", storage=storage) >= 100_000
    assert not any((folder / name).exists() for name in ("code", "inputs", "output", "runner"))
    assert (folder / "try-1" / "log-0.txt").read_text() == "hello"
    assert stored.read_text() == "before"
    assert connect().describe(done).state is JobState.CANCELLED
    (other,) = (tmp_path / "storage" / "jobs").glob("*/*/evaluate/g0")
    assert (other / "code").is_dir(), "a job that is not over is left alone"
    assert connect().describe(running).state is JobState.PENDING


def test_what_old_jobs_leave_is_removed_from_the_storage_once_they_are_old(cluster, submit, connect, tmp_path):
    done, running = submit(), submit(key="evaluate")
    (folder,) = (tmp_path / "storage" / "jobs").glob("*/*/train/g0")
    (folder / "output" / "large.bin").write_bytes(bytes(100_000))
    connect().cancel(done)
    storage = {"path": "/modelway", "node": {"name": "node", "path": str(tmp_path / "storage")}}
    now, discard = datetime.now(UTC), partial(connect().discard_old, storage=storage)
    later = now + timedelta(days=1)
    assert discard(model="tiny", before=now - timedelta(days=1)) == 0, "it is young"
    assert discard(model="another", before=later) == 0
    assert discard(model="tiny", before=later, storage=None) == 0
    freed = discard(model="tiny", before=later, dry_run=True)
    assert freed >= 100_000
    assert (folder / "output" / "large.bin").exists()
    assert discard(model="tiny", before=later) == freed
    assert not any((folder / name).exists() for name in ("code", "inputs", "output", "runner"))
    assert connect().describe(done).state is JobState.CANCELLED
    (other,) = (tmp_path / "storage" / "jobs").glob("*/*/evaluate/g0")
    assert (other / "code").is_dir(), "a job that is not over is left alone"
    assert connect().describe(running).state is JobState.PENDING
    assert discard(model="tiny", before=later) == 0
    with pytest.raises(NotWritable, match="the storage of the jobs is not seen here"):
        discard(model="tiny", before=later, storage={"path": str(tmp_path / "elsewhere")})


def test_a_job_that_the_cluster_refuses_to_show_keeps_its_files(cluster, submit, connect, tmp_path, monkeypatch):
    """As to a person with fewer rights than the workers: it may run."""
    running, storage = submit(), {"path": "/modelway", "node": {"name": "node", "path": str(tmp_path / "storage")}}
    (folder,) = (tmp_path / "storage" / "jobs").glob("*/*/train/g0")

    def refuse(*_):
        raise SubmitFailed("Kubernetes refused to list jobs", kind=FailureKind.FORBIDDEN)

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "jobs", refuse)
        later = datetime.now(UTC) + timedelta(days=1)
        assert connect().discard_old(model="tiny", before=later, storage=storage) == 0
        assert connect().discard(model="tiny", run="r1", storage=storage) == 0
    assert (folder / "code").is_dir()
    assert connect().describe(running).state is JobState.PENDING


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_submit_that_ends_at_any_call_is_finished_by_the_next(cluster, submit, connect, step, after):
    """Two objects are created for two nodes; the last call is beyond them."""
    calls = 0
    create = cluster.create

    def ends(manifest):
        nonlocal calls
        calls += 1
        if calls == step and not after:
            raise Killed
        made = create(manifest)
        if calls == step:
            raise Killed
        return made

    cluster.create = ends
    try:
        first = submit(nodes=2)
    except Killed:
        first = None
    cluster.create = create
    handle = submit(nodes=2)
    assert first in (None, handle)
    assert handle.attempt == 1
    assert len(jobs(cluster)) == 1
    assert len(cluster.objects) == 2
    assert connect().describe(handle).state is JobState.PENDING


def test_an_answer_that_is_lost_on_its_way_makes_no_second_job(cluster, submit):
    create = cluster.create

    def lost(manifest):
        create(manifest)
        raise SubmitFailed("no answer", kind=FailureKind.UNREACHABLE)

    cluster.create = lost
    with pytest.raises(SubmitFailed):
        submit()
    cluster.create = create
    assert submit().attempt == 1
    assert len(jobs(cluster)) == 1


def test_a_job_that_ended_before_its_submit_was_noted_is_not_done_again(cluster, submit, connect):
    handle = submit()
    attempt = connect().folder(handle) / "try-1"
    (attempt / "submitted").unlink()
    (attempt / "exit-0.json").write_text(json.dumps({"kind": None, "seconds": 1.0, "peak_memory_bytes": 5}))
    cluster.objects.clear()
    assert submit() == handle
    assert cluster.objects == {}, "nothing is created again"
    assert connect().describe(handle).state is JobState.SUCCEEDED


def test_a_cancel_that_the_cluster_did_not_hear_is_done_by_the_next_submit(cluster, submit, connect):
    handle = submit()
    delete = cluster.delete

    def away(*given, **how):
        raise SubmitFailed("no answer", kind=FailureKind.UNREACHABLE)

    cluster.delete = away
    with pytest.raises(SubmitFailed):
        connect().cancel(handle)
    cluster.delete = delete
    assert connect().describe(handle).state is JobState.RUNNING
    second = submit()
    assert second.attempt == 2
    assert jobs(cluster) == [second.name]
    assert connect().describe(handle).state is JobState.CANCELLED


@pytest.mark.parametrize("state", [{"running": {}}, {"waiting": {"reason": "ContainerCreating"}}])
def test_a_cancel_waits_for_a_pod_that_may_run_and_shortly_for_one_that_never_can(
    cluster, submit, connect, monkeypatch, state
):
    """A kubelet deletes it within a minute."""
    handle, looks = submit(), list[str]()
    monkeypatch.setattr("modelway.backends.kubernetes.backend.CANCEL_SECONDS", 1e6)
    monkeypatch.setattr("modelway.backends.kubernetes.backend.STUCK_SECONDS", 0.0)

    def pod(state):
        metadata = {"name": f"{handle.name}-x1", "deletionTimestamp": "2020-01-01T00:00:00Z"}
        status = {"phase": "Pending", "containerStatuses": [{"name": "job", "state": state}]}
        return {"metadata": metadata, "spec": {"nodeName": "node"}, "status": status}

    def left(*_):
        looks.append("look")
        return [pod(state if len(looks) < 3 else {"waiting": {"reason": "ErrImageNeverPull"}})]

    delete = cluster.delete
    cluster.delete = lambda *given, **how: [*delete(*given, **how), *left()]
    cluster.delete_pods = left
    connect().cancel(handle)
    assert len(looks) == 3
    assert connect().describe(handle).state is JobState.CANCELLED


def test_a_job_that_is_cancelled_before_it_was_created_is_not_created(cluster, submit, connect):
    cluster.create, create = lambda manifest: (_ for _ in ()).throw(Killed), cluster.create
    with pytest.raises(Killed):
        submit()
    cluster.create = create
    (record,) = (connect().home.parent / "storage").rglob("try-1.json")
    connect().cancel(handle_of(record.parent / "g0" / "try-1"))
    second = submit()
    assert second.attempt == 2
    assert jobs(cluster) == [second.name]


def test_an_api_that_is_unavailable_starts_nothing_beside_a_job_that_may_run(cluster, submit, connect):
    handle = submit()

    def away(*given, **how):
        raise SubmitFailed("no answer", kind=FailureKind.UNREACHABLE)

    backend = connect()
    kept, cluster.jobs = cluster.jobs, away
    assert backend.describe(handle).state is JobState.UNKNOWN
    with pytest.raises(SubmitFailed, match="it is not known whether job") as refused:
        submit()
    assert refused.value.retryable
    cluster.jobs = kept
    assert submit() == handle


def test_what_ended_is_known_when_the_cluster_has_forgotten_it(cluster, submit, connect):
    handle = submit()
    conclude(cluster, handle, "Complete")
    assert connect().describe(handle).state is JobState.SUCCEEDED
    cluster.objects.clear()
    assert connect().describe(handle).state is JobState.SUCCEEDED
    assert submit() == handle
    assert submit(clear_number=1).attempt == 2


def test_a_job_that_failed_is_removed_before_the_next_attempt(cluster, submit, connect):
    handle = submit(nodes=2)
    conclude(cluster, handle, "Failed")
    assert connect().describe(handle).state is JobState.FAILED
    second = submit(nodes=2)
    assert second.attempt == 2
    assert second.place == handle.place


def test_a_job_that_was_given_up_while_it_waited_does_not_stay(cluster, submit, connect):
    """Its quota may be free tomorrow: then it would run though nobody waits for it."""
    handle = submit()
    (connect().folder(handle) / "try-1" / "result.json").write_text('{"state": "failed", "failure": "quota"}')
    connect().cancel(handle)
    assert jobs(cluster) == []


def test_a_job_cannot_name_another_jobs_objects(cluster, submit, connect):
    """What it may write is its generation's folder: neither a record there nor a link leads a cancel elsewhere."""
    victim, handle = submit(key="other"), submit()
    folder = Path(handle.place)
    stolen = (Path(victim.place).parent / "try-1.json").read_text()
    (folder / "try-1" / "request.json").write_text(stolen)
    (folder / "try-1.json").write_text(stolen)
    for number in (2, 9):
        (folder / f"try-{number}").symlink_to(Path(victim.place) / "try-1")
    conclude(cluster, handle, "Failed")
    assert connect().describe(handle).state is JobState.FAILED
    second = submit()
    assert (second.attempt, jobs(cluster)) == (2, sorted([handle.name, second.name, victim.name]))
    assert not (folder / "try-2").is_symlink()
    connect().cancel(second)
    assert jobs(cluster) == sorted([handle.name, victim.name])
    assert connect().describe(victim).state is JobState.PENDING
    # A record that is not this side's own, or another's, begins nothing and ends nothing.
    for left in (stolen, '{"name": "x"}', stolen.replace('"nodes": 1', '"nodes": 1e12'), "[]"):
        (folder.parent / "try-2.json").write_text(left)
        connect().cancel(second)
        assert victim.name in jobs(cluster)


def test_a_name_that_another_airflow_has_taken_is_left_alone(cluster, submit, tmp_path):
    first = submit(folder=tmp_path / "one")
    second = submit(folder=tmp_path / "another")
    assert (first.attempt, second.attempt) == (1, 2)
    assert jobs(cluster) == sorted([first.name, second.name])


def test_a_try_that_failed_before_its_submit_was_noted_is_followed_by_another(cluster, submit, connect):
    """Its worker was killed after the Job was created, and the job never ran: it left nothing but the record."""
    handle = submit()
    (connect().folder(handle) / "try-1" / "submitted").unlink()
    conclude(cluster, handle, "Failed")
    assert connect().describe(handle).state is JobState.FAILED
    assert submit().attempt == 2


def test_a_watch_that_is_behind_takes_no_pod_for_gone(cluster, submit, connect):
    """The worker saw the pod, and the triggerer's watch of the pods hangs without a word."""
    handle = submit()
    backend = connect()
    (job,) = (one for (kind, _), one in cluster.objects.items() if kind == "Job")
    pod = {"metadata": {"name": f"{handle.name}-x1"}, "status": {"phase": "Running"}}
    cluster.pods = lambda namespace, selector: [pod]
    assert backend.describe(handle).state is JobState.RUNNING
    backend._objects.of_attempt = lambda *given, **how: ([job], [])
    assert backend.describe(handle).state is JobState.RUNNING
    cluster.pods = lambda namespace, selector: []
    assert backend.describe(handle).state is not JobState.RUNNING, "now it is gone"


def test_a_process_that_does_not_see_the_storage_takes_no_job_for_lost(cluster, submit, connect, tmp_path):
    """Airflow ends what is lost: a triggerer without the mount would end every job."""
    handle = submit()
    (tmp_path / "storage").rename(tmp_path / "mounted-elsewhere")
    status = connect().describe(handle)
    assert status.state is JobState.UNKNOWN
    assert f"there is no {tmp_path}/storage/jobs" in status.reason
    (tmp_path / "storage").mkdir()
    assert connect().describe(handle).state is JobState.UNKNOWN, "the place is there, and nothing is mounted"
    assert connect().logs(handle) == ("", 0)
    (tmp_path / "storage" / "jobs").mkdir()
    assert connect().describe(handle).failure is FailureKind.VANISHED, "it is seen, and the job's folder is gone"


def test_a_process_that_does_not_see_the_storage_can_end_a_job(cluster, submit, connect, tmp_path):
    handle = submit(nodes=2)
    (tmp_path / "storage").rename(tmp_path / "mounted-elsewhere")
    assert connect().unfinished(run="r1") == [handle]
    connect().cancel(Handle.from_dict(json.loads(json.dumps(handle.to_dict()))))
    assert cluster.objects == {}
    assert connect().unfinished(run="r1") == []
    assert not (tmp_path / "storage").exists()
    connect().cancel(handle)


@pytest.fixture
def two(cluster, submit, connect, tmp_path):
    """Let two Airflows, whose storage has the same path, have a job of the same name; return their handles.

    The second one's storage is seen.
    """
    first = submit()
    (tmp_path / "storage").rename(tmp_path / "of-the-first")
    second = submit()
    assert (first.attempt, second.attempt, first.place) == (1, 2, second.place)
    return first, second


def test_of_two_airflows_neither_finds_the_others_jobs(cluster, two, connect, tmp_path):
    first, second = two
    assert connect().unfinished(run="r1") == [second]
    (tmp_path / "storage").rename(tmp_path / "of-the-second")
    (tmp_path / "of-the-first").rename(tmp_path / "storage")
    assert connect().unfinished(run="r1") == [first]


def test_of_two_airflows_neither_ends_the_others_jobs(cluster, two, connect):
    """The second one's first attempt has the name that the first one's job has."""
    first, second = two
    mine = replace(first, mark=AttemptRecord.read(Path(first.place) / "try-1").mark)
    assert (mine.name, mine.mark != first.mark) == (first.name, True)
    connect().cancel(mine)
    assert jobs(cluster) == sorted([first.name, second.name])
    assert connect().describe(mine).state is JobState.CANCELLED
    connect().cancel(second)
    assert jobs(cluster) == [first.name]


def test_a_pod_that_another_airflow_named_alike_is_not_ours(cluster, two, connect, tmp_path):
    first, _ = two
    (job,) = (each for (_, name), each in cluster.objects.items() if name == first.name)
    backend = connect()
    backend._objects._requested.add("default")
    backend._objects._watch = lambda namespace: Watched([job])
    record = AttemptRecord.read(Path(first.place) / "try-1")
    assert backend._objects.of_attempt(record) == ([], [])
    record = AttemptRecord.read(
        tmp_path / "of-the-first" / Path(first.place).relative_to(tmp_path / "storage") / "try-1"
    )
    assert backend._objects.of_attempt(record) == ([job], [])


class Watched:
    """What a watch knows of a try's name."""

    def __init__(self, jobs):
        self.jobs = jobs

    def objects(self, name, *, within_seconds):
        return self.jobs, []


def test_airflows_that_see_no_storage_are_distinguished_by_their_own_name(
    cluster, submit, connect, tmp_path, monkeypatch
):
    monkeypatch.setenv("MODELWAY_DEPLOYMENT", "vision")
    handle = submit()
    (tmp_path / "storage").rename(tmp_path / "mounted-elsewhere")
    assert connect().unfinished(run="r1") == [handle]
    monkeypatch.setenv("MODELWAY_DEPLOYMENT", "speech")
    assert connect().unfinished(run="r1") == []


def test_airflows_of_two_homes_that_see_no_storage_are_distinguished_by_their_label(cluster, submit, connect, tmp_path):
    handle = submit()
    (tmp_path / "storage").rename(tmp_path / "of-the-first")
    neighbour = KubernetesBackend(home=tmp_path / "neighbour", version=(1, 30))
    neighbour.__dict__["api"] = cluster
    other = submit(backend=neighbour, key="train_2")
    (tmp_path / "storage").rename(tmp_path / "of-the-second")
    assert connect().unfinished(run="r1") == [handle]
    assert neighbour.unfinished(run="r1") == [other]
    for job in cluster.objects.values():
        # Of a version that did not label its jobs.
        job["metadata"]["labels"].pop("modelway.dev/deployment")
    assert {each.name for each in connect().unfinished(run="r1")} == {handle.name, other.name}


def test_many_that_ask_why_their_pods_wait_ask_once(cluster, connect):
    """A triggerer looks at its jobs in 32 threads."""
    asked, answered = [], threading.Event()

    def events(namespace):
        asked.append(namespace)
        answered.wait(10)
        return [{"involvedObject": {"name": "pod-1"}}]

    cluster.events = events
    objects, found = connect()._objects, []
    threads = [threading.Thread(target=lambda: found.append(objects.events("ml", "pod", now=False))) for _ in range(32)]
    for thread in threads:
        thread.start()
    wait_for(lambda: asked, what="the first question")
    answered.set()
    for thread in threads:
        thread.join()
    assert asked == ["ml"]
    assert [len(each) for each in found] == [1] * 32
    objects.events("ml", "pod", now=True)
    assert asked == ["ml", "ml"], "one that needs the events of now gets them"


def test_a_refusal_to_list_events_is_not_kept(cluster, connect):
    def refused(namespace):
        raise SubmitFailed("no answer", kind=FailureKind.UNREACHABLE)

    kept, cluster.events = cluster.events, refused
    objects = connect()._objects
    with pytest.raises(SubmitFailed):
        objects.events("ml", "pod", now=False)
    cluster.events = kept
    assert objects.events("ml", "pod", now=False) == []


@pytest.mark.parametrize("reported", [{"waiting": {"reason": "ContainerCreating"}}, {"running": {}}], ids=str)
def test_a_container_that_its_node_never_reported_keeps_its_lease(cluster, submit, connect, reported):
    """A pod that is deleted while its container starts may be gone before it: the next attempt waits for its agent."""
    handle = submit()
    attempt = connect().folder(handle) / f"try-{handle.attempt}"
    (attempt / "pods").mkdir()
    heartbeat = attempt / "pods" / "0.json"
    heartbeat.write_text("{}")
    pod = {
        "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "job"}]},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "job", "state": reported}]},
    }
    cluster.delete = lambda *place, **how: [pod]
    connect().cancel(handle)
    assert heartbeat.exists() is ("waiting" in reported)
    assert connect().describe(handle).state is JobState.CANCELLED
