"""Workers that share nothing but an object store, step by step: a store and a cluster in memory."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from modelway.backends.base import Job, JobState, Options
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

from tests.job_folders import store_code
from tests.kubernetes_in_memory import Cluster

ROOT = "memory://jobs/prefix"


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture(autouse=True)
def store():
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return MemoryFileSystem()


@pytest.fixture
def connect(cluster, tmp_path):
    """Make a backend as a worker elsewhere has it: with a home of its own."""

    def made(name="home"):
        backend = KubernetesBackend(home=tmp_path / name, version=(1, 30))
        backend.__dict__["api"] = cluster
        return backend

    return made


@pytest.fixture
def submit(connect, tmp_path):
    code = store_code(tmp_path / "source", "def train(job): ...\n")

    def asked(backend, **fields):
        words = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", **fields}
        options = Options(storage={"path": "/modelway", "uri": ROOT}, image="image")
        return backend.submit(backend.build_request(Job(**words, module="tiny.py", code=code), options))

    return asked


def jobs(cluster):
    return sorted(name for kind, name in cluster.objects if kind == "Job")


def test_what_one_worker_began_another_finds(cluster, submit, connect, store):
    handle = submit(connect("one"))
    assert handle.place == f"{ROOT}/jobs/tiny/r1/train/g0"
    assert store.exists(f"{handle.place}/prepared.tar")
    assert submit(connect("two")) == handle
    assert connect("three").unfinished(run="r1") == [handle]
    connect("three").cancel(handle)
    assert jobs(cluster) == []
    assert connect("four").describe(handle).state is JobState.CANCELLED
    assert submit(connect("five")).attempt == 2


def test_what_a_run_leaves_on_the_store_is_removed_by_any_worker(cluster, submit, connect, store):
    handle = submit(connect("one"))
    storage = {"path": "/modelway", "uri": ROOT}
    with store.open(f"{handle.place}/output/large.bin", "wb") as file:
        file.write(bytes(1000))
    other = connect("two")
    other.discard(model="tiny", run="r1", storage=storage)
    assert store.exists(f"{handle.place}/prepared.tar"), "the job is not over"
    other.cancel(handle)
    other.discard(model="another", run="r1", storage=storage)
    other.discard(model="tiny", run="r1")
    assert store.exists(f"{handle.place}/output/large.bin"), "of another model, or without its storage nothing is known"
    connect("three").discard(model="tiny", run="r1", storage=storage)
    assert not store.exists(f"{handle.place}/prepared.tar")
    assert not store.exists(f"{handle.place}/output/large.bin")
    assert connect("four").describe(handle).state is JobState.CANCELLED
    assert submit(connect("five")).place.endswith("/g1"), "another worker does not find it again"


def test_what_old_jobs_leave_is_removed_from_the_store_once_they_are_old(cluster, submit, connect, store):
    done, running = submit(connect("one")), submit(connect("one"), key="evaluate")
    with store.open(f"{done.place}/output/large.bin", "wb") as file:
        file.write(bytes(100_000))
    connect("one").cancel(done)
    discard = partial(connect("two").discard_old, storage={"path": "/modelway", "uri": ROOT})
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    assert discard(model="tiny", before=now - timedelta(days=1)) == 0, "it is young"
    freed = discard(model="tiny", before=later, dry_run=True)
    assert freed > 100_000
    assert store.exists(f"{done.place}/output/large.bin")
    assert discard(model="tiny", before=later) == freed
    assert not store.exists(f"{done.place}/prepared.tar")
    assert not store.exists(f"{done.place}/output/large.bin")
    assert store.exists(f"{running.place}/prepared.tar"), "a job that is not over is left alone"
    assert connect("three").describe(done).state is JobState.CANCELLED
    assert discard(model="tiny", before=later) == discard(model="another", before=later) == 0
    assert submit(connect("four")).place.endswith("/g1"), "another worker does not find it again"


def test_workers_that_begin_a_try_at_the_same_time_begin_one(cluster, submit, connect):
    """Nothing locks an object store: the second one looks before the first one has written anything."""
    slow = connect("slow")
    pulled = slow._folders.__class__.pull_job

    def pull_and_wait(self, folder):
        pulled(self, folder)
        if self is slow._folders:
            handles.append(submit(connect("fast")))

    handles = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slow._folders.__class__, "pull_job", pull_and_wait)
        handles.append(submit(slow))
    assert handles[0] == handles[1]
    assert len(jobs(cluster)) == 1


def test_a_store_that_refuses_this_process_says_nothing_of_the_job(cluster, submit, connect, monkeypatch):
    handle = submit(connect("one"))

    def refused(self, path, **how):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refused)
    status = connect("two").describe(handle)
    assert status.state is JobState.UNKNOWN, "Airflow would end what failed"
    assert "Access Denied" in status.reason
    monkeypatch.undo()
    assert connect("two").describe(handle).state is JobState.PENDING
    monkeypatch.setattr(MemoryFileSystem, "ls", refused)
    with pytest.raises(SubmitFailed) as reported:
        submit(connect("two"))
    assert reported.value.kind is FailureKind.FORBIDDEN
    assert len(jobs(cluster)) == 1


def test_a_folder_that_was_removed_is_begun_anew_whatever_is_left_on_the_cluster(cluster, submit, connect, store):
    handle = submit(connect("one"))
    (job,) = cluster.objects.values()
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    store.rm("/jobs/prefix/jobs/tiny", recursive=True)
    again = submit(connect("one"))
    assert (again.place, again.attempt) == (handle.place, 2)
    assert connect("two").describe(again).state is JobState.PENDING


def test_a_process_that_cannot_read_the_store_can_end_a_job(cluster, submit, connect, monkeypatch):
    """A scheduler has no credentials, and nothing that reads the store."""
    handle = submit(connect("one"))

    def missing(self, path, **how):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", missing)
    scheduler = connect("two")
    for each in scheduler.unfinished(run="r1"):
        scheduler.cancel(each)
    assert jobs(cluster) == []
    assert scheduler.unfinished(run="r1") == []
    assert handle.mark


def test_a_job_that_may_write_to_its_bucket_cannot_name_another_jobs_objects(cluster, submit, connect, store):
    victim, handle = submit(connect("one"), key="other"), submit(connect("one"))
    place = "/jobs/prefix/jobs/tiny/r1"
    stolen = store.cat_file(f"{place}/other/try-1.json")
    store.pipe_file(f"{place}/train/try-1.json", stolen)
    store.pipe_file(f"{place}/train/g0/try-1/request.json", stolen)
    assert submit(connect("two")).mark == handle.mark
    for cancelled in (handle, submit(connect("three"))):
        connect("four").cancel(cancelled)
        assert victim.name in jobs(cluster)
    assert connect("four").unfinished(run="r1") == [victim]


def test_a_job_that_names_another_jobs_folder_does_not_end_that_one(cluster, submit, connect):
    """One with a service account may change its own Job."""
    victim, handle = submit(connect("one"), key="other"), submit(connect("one"))
    cluster.objects["Job", handle.name]["metadata"]["annotations"]["modelway.dev/folder"] = f"{victim.place}/try-1"
    for found in connect("two").unfinished(run="r1"):
        if found.name == handle.name:
            connect("two").cancel(found)
    assert jobs(cluster) == [victim.name]
    assert connect("three").describe(victim).state is JobState.PENDING
