"""A job whose folder lies on an object store: the container is lost, and the next one continues from what is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from modelway.backends.folders import object_store
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.job.agent import remote
from modelway.job.checkpoints import damage
from modelway.job.contract import Job, recorded_checkpoints

from tests.gs_server import gs_server
from tests.job_folders import wait_for, write_job
from tests.s3_server import LOGIN, MISSING, s3_server

LIBRARY = Path(__file__).parents[2] / "plugins" / "modelway"
CHECKPOINTS = """
import time
def train(job):
    begun = resumed.step if (resumed := job.resume_from()) else 0
    job.keep_checkpoints(last=3)
    for step in range(begun + 1, job.params['steps'] + 1):
        print(f'at step {step}')
        time.sleep(0.05)
        with job.checkpoint(step=step) as path: path.write_text(f'state {step}')
    (job.output / 'made.txt').write_text('made')
"""


@pytest.fixture(scope="module")
def s3():
    with s3_server("127.0.0.1") as endpoint:
        yield {**LOGIN, "AWS_ENDPOINT_URL": endpoint}


@pytest.fixture(scope="module")
def gs():
    with gs_server() as environment:
        yield environment


# S3 and GCS need an environment of their own: tests/object_store_environment.py
@pytest.fixture(params=["file"] if MISSING else ["s3", "gs"])
def store(request, tmp_path, monkeypatch):
    """Return the URI of a new place for jobs."""
    if request.param == "file":
        return f"file://{tmp_path}/store/jobs/j1"
    environment = request.getfixturevalue(request.param)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"jobs-{tmp_path.name.replace('_', '-').lower()[-40:].strip('-')}"
    if request.param == "gs":
        import gcsfs

        gcsfs.GCSFileSystem.clear_instance_cache()
        gcsfs.GCSFileSystem().mkdir(bucket)
        return f"gs://{bucket}/jobs/j1"
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    endpoint = environment["AWS_ENDPOINT_URL"]
    s3fs.S3FileSystem(endpoint_url=endpoint).mkdir(bucket)
    return f"s3://{bucket}/jobs/j1"


@pytest.fixture
def published(store, tmp_path):
    """Publish a job of a few steps; return its URI."""
    folder = write_job(tmp_path / "prepared", code=CHECKPOINTS, params={"steps": 100})
    shutil.copytree(LIBRARY / "job", folder / "runner" / "modelway" / "job")
    shutil.copy(LIBRARY / "__init__.py", folder / "runner" / "modelway")
    object_store.publish(folder=folder, uri=store)
    shutil.rmtree(folder)
    return store


@pytest.fixture
def container(published, tmp_path):
    """Start what stands for a container: it has nothing but the URI and a scratch folder of its own."""
    started = []

    def start(attempt, *words):
        scratch = tmp_path / f"container-{len(started)}"
        command = object_store.command(
            uri=published, folder=str(scratch), flags=["--attempt", str(attempt), *words], python=sys.executable
        )
        reported = ("AWS_", "STORAGE_", "GOOGLE_", "GCSFS_")
        environment = {name: value for name, value in os.environ.items() if name.startswith(reported)}
        process = subprocess.Popen(
            command,
            env={"PATH": "/usr/bin:/bin", **environment},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        lose(process)
        process.stdout.close()


def lose(process):
    """End a container as a lost machine does: all of it at once."""
    import psutil

    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
    process.wait(timeout=60)


def fetched(uri, tmp_path):
    folder = tmp_path / "copy"
    object_store.fetch(uri=uri, folder=folder)
    return folder


def test_a_job_runs_with_nothing_but_its_uri(published, container, tmp_path):
    process = container(1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    folder = fetched(published, tmp_path)
    assert [each.step for each in recorded_checkpoints(folder)] == [98, 99, 100]
    assert all(damage(each) is None for each in recorded_checkpoints(folder))
    assert (folder / "output" / "made.txt").read_text() == "made"
    assert (folder / "try-1" / "log-0.txt").read_text() == "".join(f"at step {step}\n" for step in range(1, 101))
    assert json.loads(object_store.exit_report(uri=published, attempt=1))["returncode"] == 0
    assert object_store.exit_report(uri=published, attempt=2) is None
    names = {path.name for path in (folder / "output" / "checkpoints").iterdir()}
    assert names == {"train-000098", "train-000099", "train-000100"}


def test_a_job_whose_container_is_lost_continues_from_the_stores_last_checkpoint(published, container, tmp_path):
    first = container(1)
    wait_for(lambda: recorded_checkpoints(fetched(published, tmp_path)), seconds=30, what="a checkpoint on the store")
    lose(first)
    known = recorded_checkpoints(fetched(published, tmp_path))
    assert all(damage(each) is None for each in known), "an event is never there before its checkpoint"
    assert 1 <= known[-1].step < 100
    second = container(2)
    output, _ = second.communicate(timeout=90)
    assert second.returncode == 0, output
    assert "waiting for another container" in output, "the lost one's heartbeat has to grow old first"
    assert f"resuming from checkpoint {known[-1].id}" in output
    folder = fetched(published, tmp_path)
    assert recorded_checkpoints(folder)[-1].step == 100
    assert (folder / "try-2" / "log-0.txt").read_text().endswith("at step 100\n")


def test_a_job_that_is_requested_to_leave_has_left_everything_on_the_store(published, container, tmp_path):
    first = container(1)
    assert first.stdout.readline() == "at step 1\n"
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 143, output
    reported = json.loads(object_store.exit_report(uri=published, attempt=1))
    last = recorded_checkpoints(fetched(published, tmp_path))[-1]
    assert reported["stopped"]
    assert last.id in reported["reason"]
    second = container(2)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert f"resuming from checkpoint {last.id}" in output
    assert "waiting" not in output, "a container that left as it should leaves no heartbeat"


def test_of_two_containers_of_one_attempt_one_enters(store, tmp_path):
    """Each sees nobody before either begins its heartbeat; the store refuses the second."""
    both = [remote.Remote(uri=store, folder=tmp_path, attempt=1, node=0) for _ in range(2)]
    seen = [each._others() for each in both]
    assert seen == [{}, {}]
    assert [each._enter() for each in both] == [True, False]
    # Asked to leave while it waits, it leaves the other's heartbeat where it is.
    asked = iter([False, True, True])
    assert not both[1].enter(leave=lambda: next(asked), say=lambda text: None)
    fs, place = object_store._open(store, None)
    assert both[0]._me["process"].encode() in fs.cat_file(f"{place}/try-1/pods/0.json")


def test_a_heartbeat_that_was_written_and_not_answered_is_its_own(store, tmp_path):
    one = remote.Remote(uri=store, folder=tmp_path, attempt=1, node=0)
    assert one._enter()
    assert one._enter()


def test_a_store_without_conditions_is_used_all_the_same(store, tmp_path, monkeypatch):
    one = remote.Remote(uri=store, folder=tmp_path, attempt=1, node=0)
    write = one._fs.pipe_file

    def refuse(path, value, mode="overwrite"):
        if mode == "create":
            raise OSError("A header you provided implies functionality that is not implemented")
        write(path, value)

    monkeypatch.setattr(one._fs, "pipe_file", refuse)
    assert one._enter()
    assert one._me["process"].encode() in one._fs.cat_file(one._heart)


@pytest.mark.parametrize("other", [True, False])
def test_a_store_that_does_not_answer_once_replaces_no_heartbeat(store, tmp_path, monkeypatch, other):
    """Another container of the attempt begins its own meanwhile."""
    monkeypatch.setattr(remote, "CREATE_PAUSES", (0.01,))
    one, second = (remote.Remote(uri=store, folder=tmp_path, attempt=1, node=0) for _ in range(2))
    write = one._fs.pipe_file

    def fail(path, value, **mode):
        monkeypatch.setattr(one._fs, "pipe_file", write)
        if other:
            assert second._enter()
        raise OSError("Connection reset by peer")

    monkeypatch.setattr(one._fs, "pipe_file", fail)
    assert one._enter() is not other
    assert (second if other else one)._me["process"].encode() in one._fs.cat_file(one._heart)


def test_a_store_that_never_answers_or_refuses_is_an_error(store, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "CREATE_PAUSES", (0.01,))
    one, calls = remote.Remote(uri=store, folder=tmp_path, attempt=1, node=0), []

    def fail(path, value, **mode):
        calls.append(mode)
        raise kind("no")

    monkeypatch.setattr(one._fs, "pipe_file", fail)
    for kind, count in ((OSError, 2), (PermissionError, 1)):
        calls.clear()
        with pytest.raises(kind, match="no"):
            one._enter()
        assert len(calls) == count


@pytest.mark.emulator
@pytest.mark.skipif(bool(MISSING), reason="needs gcsfs")
def test_a_bucket_of_another_project_is_refused_with_what_to_grant(tmp_path, monkeypatch):
    """As Cloud Storage answers where the role is on the project, and the bucket is of another one."""
    answer = "jobs@p1.iam.gserviceaccount.com does not have storage.objects.create access to the bucket."

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps({"error": {"code": 403, "message": answer}}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    import gcsfs

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        gcsfs.GCSFileSystem.clear_instance_cache()
        folder, uri = write_job(tmp_path / "prepared"), "gs://theirs/jobs"
        said = "refuses this worker: Forbidden: .* storage.objects.create"
        with pytest.raises(SubmitFailed, match=said) as refused, object_store.translate_errors(uri):
            object_store.publish(folder=folder, uri=uri)
        gcsfs.GCSFileSystem.clear_instance_cache()
        server.shutdown()
    assert refused.value.kind is FailureKind.FORBIDDEN
    assert "roles/storage.objectUser on the bucket" in str(refused.value)


def test_of_two_attempts_the_second_leaves_no_heartbeat_while_it_waits(store, tmp_path):
    first, second = (remote.Remote(uri=store, folder=tmp_path, attempt=number, node=0) for number in (1, 2))
    assert first._enter()
    assert not second._enter()
    fs, place = object_store._open(store, None)
    fs.invalidate_cache()
    assert [path.rpartition("/jobs/")[2] for path in fs.glob(f"{place}/try-*/pods/*.json")] == ["j1/try-1/pods/0.json"]


def test_a_damaged_checkpoint_on_the_store_is_passed_over(store, tmp_path):
    here, there = (write_job(tmp_path / name) for name in ("here", "there"))
    for step in (1, 2):
        with Job(here).checkpoint(step=step) as path:
            path.write_text(f"state {step}")
    sender = remote.Remote(uri=store, folder=here, attempt=1, node=0)
    sender.copy()
    fs, place = object_store._open(store, None)
    fs.pipe_file(f"{place}/output/checkpoints/train-000002", b"half")
    remote.Remote(uri=store, folder=there, attempt=2, node=0).restore()
    assert Job(there).resume_from().step == 1


def test_checkpoints_that_are_not_fetched_again_hold_up_no_news(store, tmp_path):
    here, there = (write_job(tmp_path / name) for name in ("here", "there"))
    for step in (1, 2):
        with Job(here).checkpoint(step=step) as path:
            path.write_text(f"state {step}")
    remote.Remote(uri=store, folder=here, attempt=1, node=0).copy()
    second = remote.Remote(uri=store, folder=there, attempt=2, node=0)
    second.restore()
    job = Job(there)
    assert not recorded_checkpoints(there)[0].path.exists(), "only the newest is needed"
    with job.checkpoint(step=3) as path:
        path.write_text("state 3")
    second.copy()
    folder = fetched(store, tmp_path)
    assert [(each.step, damage(each)) for each in recorded_checkpoints(folder)] == [(1, None), (2, None), (3, None)]


def test_what_is_reported_of_while_it_is_copied_waits_for_the_next_time(store, tmp_path, monkeypatch):
    folder = write_job(tmp_path / "here")
    job = Job(folder)
    job.keep_checkpoints(last=1)
    sender = remote.Remote(uri=store, folder=folder, attempt=1, node=0)
    with job.checkpoint(step=1) as path:
        path.write_text("one")
    read = remote.parse_events

    def meanwhile(data):
        monkeypatch.setattr(remote, "parse_events", read)
        with job.checkpoint(step=2) as path:
            path.write_text("two")
        return read(data)

    monkeypatch.setattr(remote, "parse_events", meanwhile)
    sender.copy()
    assert recorded_checkpoints(fetched(store, tmp_path)) == [], "the first is gone, of the second nothing was reported"
    sender.copy()
    (found,) = recorded_checkpoints(fetched(store, tmp_path))
    assert (found.step, damage(found)) == (2, None)
