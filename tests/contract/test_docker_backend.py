"""Jobs on a real Docker engine, here and through the network: crashes between steps, lost connections, what is left."""

import io
import tarfile
import time
import uuid
from types import SimpleNamespace

import pytest
from modelway.backends.base import JobState, Options, RunFolders
from modelway.backends.docker import backend as docker_backend
from modelway.backends.docker.backend import DockerBackend
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.agent.usage import usage_in
from modelway.job.contract import recorded_checkpoints
from modelway.platforms.docker.engine import Engine

from tests.docker_engine import inspected, read_log, require_engine
from tests.job_folders import WAITS, ended, go, put, starts, succeeded, write_wheel, written

#: one checkpoint a step; after the second it says so and waits, the first time
STEPS = """
import time
def train(job):
    found = job.resume_from()
    for step in range((found.step if found else 0) + 1, 5):
        with job.checkpoint(step=step) as path: path.write_text(str(step))
        if step == 2 and not found:
            (job.output / 'pid').write_text('2')
            while not job.stopping: time.sleep(0.02)
"""


@pytest.fixture
def engine():
    return require_engine()


@pytest.fixture
def name():
    return "docker"


def containers(engine, run):
    return engine.containers({"modelway.dev/run": run})


STATUS = """
import os
def train(job):
    lines = [line.split(':\\t') for line in open('/proc/self/status').read().splitlines()]
    limits = dict(line for line in lines if len(line) == 2)
    (job.output / 'seen').write_text(f"{os.getuid()} {limits['CapEff']} {limits['CapBnd']} {limits['NoNewPrivs']}")
"""


def test_a_job_has_no_rights(backend, jobs):
    handle = jobs(STATUS)
    succeeded(backend, handle)
    assert written(backend, handle, "seen") == f"1000 {'0' * 16} {'0' * 16} 1"


class Killed(BaseException):
    """The worker's end, at an exact step."""


@pytest.mark.parametrize("step", ["create_volume", "create", "put", "rename", "start"])
def test_a_worker_that_dies_at_any_step_leaves_nothing_that_harms(backend, jobs, engine, run, monkeypatch, step):
    real = getattr(Engine, step)

    def dies(*words, **named):
        real(*words, **named)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Engine, step, dies)
        with pytest.raises(Killed):
            jobs(WAITS)
    handle = jobs(WAITS)
    assert handle.attempt == 1
    go(backend, handle)
    succeeded(backend, handle)
    assert starts(backend, handle) == 1
    ran = [one for one in containers(engine, run) if one["State"] != "created"]
    assert [one["Names"] for one in ran] == [[f"/{handle.name}"]]
    assert backend.unfinished(run=run) == []


def test_a_named_container_that_nobody_started_can_be_cancelled(backend, jobs, run, monkeypatch):
    def dies(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "start", dies)
        with pytest.raises(Killed):
            jobs(WAITS)
    (handle,) = backend.unfinished(run=run)
    assert backend.describe(handle).state is JobState.PENDING
    backend.cancel(handle)
    assert backend.describe(handle).state is JobState.CANCELLED
    assert backend.unfinished(run=run) == []
    again = jobs(WAITS)
    assert again.attempt == 2
    go(backend, again)
    succeeded(backend, again)


def test_the_jobs_of_a_run_that_are_not_over_are_reported(backend, jobs, run):
    first, second = jobs(WAITS), jobs(WAITS, key="train_2")
    jobs(WAITS, run=f"other-{run}")
    assert {each.name for each in backend.unfinished(run=run)} == {first.name, second.name}
    backend.cancel(first)
    assert backend.unfinished(run=run) == [second]


@pytest.fixture
def neighbour(tmp_path):
    """Another Airflow on the same engine."""
    return DockerBackend(home=tmp_path / "neighbour")


def test_two_airflows_with_equal_runs_neither_adopt_nor_stop_each_others_jobs(backend, jobs, neighbour, run):
    ours = jobs(WAITS)
    assert neighbour.unfinished(run=run) == [], "it has submitted nothing yet"
    theirs = jobs(WAITS, backend=neighbour)
    assert (theirs.name, theirs.place) != (ours.name, ours.place)
    assert written(backend, ours)
    assert written(neighbour, theirs)
    assert (backend.unfinished(run=run), neighbour.unfinished(run=run)) == ([ours], [theirs])
    assert (jobs(WAITS), jobs(WAITS, backend=neighbour)) == (ours, theirs)
    neighbour.cancel(theirs)
    assert backend.describe(ours).state is JobState.RUNNING
    go(backend, ours)
    succeeded(backend, ours)
    assert starts(backend, ours) == 1


@pytest.mark.parametrize(
    ("variable", "value"), [("MODELWAY_DEPLOYMENT", "team-a"), ("MODELWAY_ARTIFACT_ROOT", "s3://team-a/artifacts")]
)
def test_workers_of_one_deployment_find_each_others_jobs(jobs, neighbour, run, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    handle = jobs(WAITS)
    assert jobs(WAITS, backend=neighbour) == handle
    assert neighbour.unfinished(run=run) == [handle]


def test_a_job_that_an_earlier_version_submitted_continues_in_its_own_volume(backend, jobs, run, monkeypatch):
    with monkeypatch.context() as patched:
        # Before jobs were labelled with their deployment.
        patched.setattr(docker_backend, "deployment", lambda home: "")
        first = jobs(STEPS)
    written(backend, first)
    assert backend.unfinished(run=run) == [first]
    assert jobs(STEPS) == first
    backend.cancel(first)
    second = jobs(STEPS)
    assert (second.attempt, second.place) == (2, first.place)
    succeeded(backend, second)
    assert [each.step for each in recorded_checkpoints(backend.folder(second))] == [1, 2, 3, 4]


@pytest.mark.parametrize("force", [True, False])
def test_a_job_that_the_engine_ends_continues_from_its_last_checkpoint(backend, jobs, engine, force):
    first = jobs(STEPS)
    written(backend, first)
    if force:
        engine.api.kill(first.name)
    else:
        engine.api.stop(first.name, timeout=20)
    status = ended(backend, first)
    assert (status.state, status.failure, status.retryable) == (JobState.FAILED, FailureKind.KILLED, True)
    assert ("was killed by SIGKILL" if force else "requested to stop") in status.reason
    begun = time.monotonic()
    second = jobs(STEPS)
    assert second.attempt == 2
    succeeded(backend, second)
    assert time.monotonic() - begun < 15, "nobody waits for a heartbeat of a container that is known to be over"
    # One that is requested to stop ends with a checkpoint more.
    assert f"resuming from checkpoint train-00000{2 if force else 3}" in backend.logs(second)[0]
    assert [each.step for each in recorded_checkpoints(backend.folder(second))] == [1, 2, 3, 4]


def test_a_container_that_is_gone_is_reported_and_its_volume_continues(backend, jobs, engine):
    first = jobs(STEPS)
    written(backend, first)
    engine.remove(first.name)
    status = backend.describe(first)
    assert (status.state, status.failure, status.retryable) == (JobState.FAILED, FailureKind.VANISHED, True)
    second = jobs(STEPS)
    succeeded(backend, second)
    assert [each.step for each in recorded_checkpoints(backend.folder(second))] == [1, 2, 3, 4]


def test_how_a_job_ended_is_known_when_its_container_is_gone(backend, jobs, engine):
    handle = jobs("def train(job):\n    print('hello')\n    (job.output / 'x').write_text('1')\n")
    before = succeeded(backend, handle)
    folder, text = backend.folder(handle), backend.logs(handle)
    image = engine.api.inspect_image(inspected(handle)["Image"])
    expected = image["RepoDigests"][0].split("@")[1] if image["RepoDigests"] else image["Id"]
    engine.remove(handle.name)
    assert backend.describe(handle) == before
    assert before.image_digest == expected
    assert backend.folder(handle) == folder
    assert backend.logs(handle) == text


def test_an_image_that_cannot_be_had_is_reported(backend, jobs, engine, run):
    with pytest.raises(SubmitFailed, match=r"no image 127\.0\.0\.1:1/no/such:1 and could not pull it") as reported:
        jobs(WAITS, options=Options(image="127.0.0.1:1/no/such:1"))
    assert (reported.value.kind, reported.value.retryable) == (FailureKind.IMAGE_PULL, False)
    assert containers(engine, run) == []


def test_an_image_without_python_is_reported(backend, jobs, engine):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    tag = f"modelway-test-empty:{uuid.uuid4().hex[:8]}"
    engine.api.import_image_from_data(packed.getvalue(), repository=tag.split(":")[0], tag=tag.split(":")[1])
    try:
        handle = jobs(WAITS, options=Options(image=tag))
        status = ended(backend, handle)
        assert (status.state, status.failure) == (JobState.FAILED, FailureKind.INIT)
        assert 'exec: "python3"' in status.reason
    finally:
        engine.remove(handle.name)
        engine.api.remove_image(tag)


def test_what_a_container_said_that_could_not_begin_is_in_the_log(backend, jobs):
    handle = jobs(WAITS, options=Options(platform={"env": {"PYTHONHOME": "/nowhere"}}))
    status = ended(backend, handle)
    assert (status.state, status.failure) == (JobState.FAILED, FailureKind.INIT)
    assert status.reason == "the container ended with exit status 1 before the job's code began"
    assert "Fatal Python error" in backend.logs(handle)[0]


def test_a_job_that_its_agent_does_not_stop_is_stopped_from_outside(backend, jobs, engine, monkeypatch):
    handle = jobs(WAITS, options=Options(timeout_seconds=3600))
    written(backend, handle)
    monkeypatch.setattr(docker_backend, "BACKSTOP_SECONDS", -3600)
    status = backend.describe(handle)
    assert (status.state, status.failure) == (JobState.FAILED, FailureKind.DEADLINE)
    assert not inspected(handle)["State"]["Running"]
    assert backend.describe(handle) == status


def test_a_paused_container_is_reported_and_can_be_cancelled(backend, jobs, engine):
    handle = jobs(WAITS)
    written(backend, handle)
    engine.api.pause(handle.name)
    status = backend.describe(handle)
    assert (status.state, status.waiting) == (JobState.RUNNING, "the container is paused")
    backend.cancel(handle)
    assert backend.describe(handle).state is JobState.CANCELLED


def test_readers_at_any_place_and_pace_get_the_same_lines(backend, jobs, tmp_path):
    code = (
        "import time\ndef train(job):\n"
        "    for number in range(30_000):\n"
        "        print(number, 'x' * (40_000 if number % 10_000 == 7 else 3))\n"
        "        if number % 3000 == 0: time.sleep(0.2)\n"
    )
    handle = jobs(code)
    other = DockerBackend(home=tmp_path / "other")
    pieces, offset = [], 0
    while not backend.describe(handle).state.is_terminal:
        text, offset = backend.logs(handle, offset=offset)
        pieces.append(text)
    lines, end = read_log(backend, handle, offset=offset)
    read = "".join(pieces).splitlines() + lines
    assert [line.split()[0] for line in read] == [str(number) for number in range(30_000)]
    assert len(read[7]) == 40_002
    assert len(pieces) > 3, "it was read while it was written"
    assert other.describe(handle).state is JobState.SUCCEEDED
    assert read_log(other, handle) == (read, end)
    assert read_log(other, handle, offset=offset) == (lines, end)


def test_the_copy_of_a_folder_follows_what_the_job_makes(backend, jobs):
    code = (
        "import os, time\ndef train(job):\n"
        "    (job.output / 'a').mkdir()\n    (job.output / 'a' / 'old').write_text('x' * 9)\n"
        "    (job.output / 'link').symlink_to('a/old')\n    (job.output / 'away').symlink_to('/etc/passwd')\n"
        "    (job.output / 'pid').write_text('1')\n"
        "    while not (job.output / 'go').exists(): time.sleep(0.02)\n"
        "    (job.output / 'a' / 'old').rename(job.output / 'a' / 'new')\n"
    )
    handle = jobs(code)
    written(backend, handle)
    folder = backend.folder(handle)
    assert (folder / "output" / "link").read_text() == "x" * 9
    assert not (folder / "output" / "away").is_symlink(), "nothing leads out of the folder"
    assert not (folder / "code").exists()
    put(backend, handle, "go")
    succeeded(backend, handle)
    assert backend.folder(handle) == folder
    assert sorted(path.name for path in (folder / "output" / "a").iterdir()) == ["new"]


def test_old_jobs_of_other_runs_are_removed_with_their_volumes(backend, jobs, engine, run, monkeypatch):
    # Not at once: the next job of any process on this engine removes what is old.
    shortly = Options(platform={"keep_seconds": 600})
    code = "def train(job): ...\n"
    kept, old, own = jobs(code, run=f"kept-{run}"), jobs(WAITS, run=f"old-{run}", options=shortly), jobs(code)
    assert inspected(old), "it runs"
    put(backend, old, "go")
    for handle in (kept, old, own):
        succeeded(backend, handle)
    jobs(code, key="train_2")
    assert inspected(old), "its time is not over"
    with monkeypatch.context() as later:
        later.setattr(docker_backend, "time", SimpleNamespace(time=lambda: time.time() + 1200))
        jobs(code, key="train_3")
    assert engine.inspect(old.name) is None
    assert engine.volumes({"modelway.dev/run": f"old-{run}"}) == []
    assert inspected(kept)
    assert inspected(own), "what this run made is kept as long as it continues"


def test_a_run_that_is_over_leaves_nothing_on_the_engine_but_what_runs(backend, jobs, engine, run):
    code = "def train(job): (job.output / 'seen').write_text('x' * 5000)\n"
    over, other, running = jobs(code), jobs(code, run=f"other-{run}"), jobs(WAITS, key="train_2")
    for handle in (over, other):
        succeeded(backend, handle)
    written(backend, running)
    copy = backend.folder(over)
    model = inspected(over)["Config"]["Labels"]["modelway.dev/model"]
    assert isinstance(backend, RunFolders)
    assert backend.discard(model="another", run=run) == 0
    assert backend.discard(model=model, run=run) >= 5000
    assert engine.inspect(over.name) is None
    assert {one["Names"][0] for one in containers(engine, run)} == {f"/{running.name}"}
    assert [one["Name"] for one in engine.volumes({"modelway.dev/run": run})] == [running.place]
    assert not (copy / "output").exists()
    assert backend.describe(over).state is JobState.SUCCEEDED
    assert inspected(other)
    put(backend, running, "go")
    succeeded(backend, running)
    assert backend.discard(model=model, run=run) >= 0
    assert containers(engine, run) == []


def test_requirements_are_installed_from_the_code_package(backend, jobs, tmp_path):
    code = "import numpy, tinylib\ndef train(job):\n    (job.output / 'seen').write_text(str(tinylib.VALUE))\n"
    write_wheel(tmp_path / "source" / "code" / "wheels", "tinylib", "1.0", value=41)
    handle = jobs(code, files={"requirements.txt": "--no-index\n--find-links wheels\nnumpy>=1\ntinylib==1.0\n"})
    succeeded(backend, handle)
    assert written(backend, handle, "seen") == "41"
    assert "installing requirements that this image lacks" in backend.logs(handle)[0]


TOGETHER = """
import torch
def train(job):
    torch.distributed.init_process_group("gloo")
    seen = torch.tensor([job.rank + 1])
    torch.distributed.all_reduce(seen)
    with job.checkpoint(step=1) as path: path.write_text(f"{job.world_size} {int(seen)}")
    torch.distributed.destroy_process_group()
"""


def test_several_processes_of_a_container_work_together(backend, jobs):
    options = Options(processes_per_node=2, platform={"shared_memory_bytes": 256 << 20})
    handle = jobs(TOGETHER, options=options)
    succeeded(backend, handle, seconds=120)
    (checkpoint,) = recorded_checkpoints(backend.folder(handle))
    assert checkpoint.path.read_text() == "2 3"
    assert usage_in(backend.folder(handle))[0] > 0


def test_gpus_are_refused_where_the_engine_has_none(backend, engine, jobs):
    if "nvidia" in engine.info["Runtimes"]:
        succeeded(backend, jobs("def train(job): ...\n", options=Options(gpu=1)))
        return
    with pytest.raises(CapabilityMissing, match="its engine has no runtime nvidia"):
        jobs(WAITS, options=Options(gpu=1))
