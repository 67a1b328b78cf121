"""The local backend's own: folders of tries, supervisors that are killed, and what requirements need an environment."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import Job, JobState, Options
from modelway.backends.local import processes
from modelway.backends.local.backend import LocalBackend
from modelway.errors import CapabilityMissing
from modelway.job.agent import bare, memory, process_tree
from modelway.job.agent import requirements as agent_requirements
from modelway.job.events import read_events

from tests.job_folders import runs, store_code, wait_for, write_wheel

WAITS = """
import os, time
def train(job):
    job.output.mkdir(exist_ok=True)
    (job.output / f'pid-{os.getpid()}').touch()
    print(sorted(os.sched_getaffinity(0)))
    while not (job.output / 'go').exists():
        time.sleep(0.02)
"""


@pytest.fixture
def backend(tmp_path):
    return LocalBackend(home=tmp_path / "home")


@pytest.fixture
def submit(backend, tmp_path):
    """Submit the waiting job; whatever still runs at the end is cancelled."""
    handles = []

    def asked(*, code=WAITS, options=None, files=None, **fields):
        package = store_code(tmp_path / "source", code, **(files or {}))
        words = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", **fields}
        job = Job(**words, module="tiny.py", code=package)
        handles.append(backend.submit(backend.build_request(job, options or Options())))
        return handles[-1]

    yield asked
    for handle in handles:
        backend.cancel(handle)


def attempt(backend, handle):
    return backend.folder(handle) / f"try-{handle.attempt}"


def agent(backend, handle):
    return json.loads((attempt(backend, handle) / "process.json").read_text())["pid"]


def pids(backend, handle):
    return {int(path.name.split("-")[1]) for path in (backend.folder(handle) / "output").glob("pid-*")}


def finish(backend, handle):
    wait_for(lambda: pids(backend, handle), what="the start")
    (backend.folder(handle) / "output" / "go").touch()
    wait_for(lambda: backend.describe(handle).state.is_terminal, what="the end")
    return backend.describe(handle)


def lose(backend, handle):
    """Make an ended try look as if its supervisor had been killed before it could write how it ended."""
    wait_for(lambda: not processes.alive(attempt(backend, handle)), what="the supervisor's end")
    (attempt(backend, handle) / "exit-0.json").unlink()


def test_a_jobs_folder_holds_generations_and_tries(backend, submit, tmp_path):
    handle = submit(model="tiny", run="dag/manual__2026-11-20", key="train_stage.train")
    folder = backend.folder(handle)
    assert folder.name == "g0"
    assert folder.parents[3] == tmp_path / "home" / "jobs"
    assert finish(backend, handle).state is JobState.SUCCEEDED
    assert {path.name for path in folder.iterdir()} >= {"job.json", "code", "output", "generation.json", "try-1"}
    names = sorted(path.name for path in attempt(backend, handle).iterdir())
    known = ["claim", "exit-0.json", "log-0.txt", "pods", "process.json", "request.json", "start.txt"]
    assert names[:-1] == known
    assert re.fullmatch(r"usage-0-[0-9a-f]{8}\.json", names[-1])
    assert (attempt(backend, handle) / "start.txt").read_text() == ""
    again = submit(run="dag/manual__2026-11-20", key="train_stage.train", clear_number=1)
    assert backend.folder(again).name == "g1"


WRITES = """
import os
def train(job):
    assert job.input("checkpoint").read_bytes() == b"stored"
    for mode in ("r+b", "wb", "ab"):
        try:
            open(job.input("checkpoint"), mode).write(b"changed")
        except OSError as error:
            job.note(f"refused {error.errno}")
    try:
        os.truncate(job.input("checkpoint"), 0)
    except OSError as error:
        job.note(f"refused {error.errno}")
    with job.checkpoint(step=1) as path:
        path.write_bytes(job.input("checkpoint").read_bytes())
"""


def test_a_job_cannot_change_a_stored_file_through_its_input(backend, submit, tmp_path):
    (tmp_path / "weights").write_bytes(b"stored")
    store = ArtifactStore(f"file://{tmp_path}/store")
    artifact = store.put(tmp_path / "weights", model="tiny", shared=True)
    handle = submit(code=WRITES, inputs={"checkpoint": artifact})
    wait_for(lambda: backend.describe(handle).state.is_terminal, what="the end")
    assert backend.describe(handle).state is JobState.SUCCEEDED
    assert store.fetch(artifact, to=tmp_path / "copy").read_bytes() == b"stored"
    notes = [event["text"] for event in read_events(backend.folder(handle)) if event["kind"] == "note"]
    assert len(notes) == 4


def test_inputs_are_copies_for_root_where_nothing_can_be_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(bare, "_mount_read_only", lambda folder: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "stored").write_bytes(b"stored")
    os.link(tmp_path / "stored", tmp_path / "inputs" / "checkpoint")
    bare.protect(tmp_path / "inputs")
    (tmp_path / "inputs" / "checkpoint").write_bytes(b"changed")
    assert (tmp_path / "stored").read_bytes() == b"stored"
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == ["checkpoint"]


def test_a_home_that_is_relative_is_the_same_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert LocalBackend(home=type(tmp_path)("home")).home == tmp_path / "home"


def test_what_a_killed_supervisor_leaves_is_ended_before_the_next_attempt(backend, submit):
    first = submit()
    (left,) = wait_for(lambda: pids(backend, first), what="the start")
    os.kill(agent(backend, first), signal.SIGKILL)
    wait_for(lambda: backend.describe(first).state is not JobState.RUNNING, what="the supervisor's end")
    status = backend.describe(first)
    assert (status.state, status.retryable) == (JobState.FAILED, True)
    assert status.reason == "the job vanished: its agent was killed or the machine restarted"
    assert runs(left)
    second = submit()
    assert (second.attempt, second.place) == (2, first.place)
    assert not runs(left)
    assert finish(backend, second).state is JobState.SUCCEEDED


def test_cancel_ends_what_a_killed_supervisor_leaves(backend, submit):
    handle = submit()
    (left,) = wait_for(lambda: pids(backend, handle), what="the start")
    os.kill(agent(backend, handle), signal.SIGKILL)
    wait_for(lambda: backend.describe(handle).state is not JobState.RUNNING, what="the supervisor's end")
    backend.cancel(handle)
    assert not runs(left)


def test_a_process_with_a_used_pid_is_no_supervisor_and_is_left_alone(tmp_path):
    # A leader of our own: the test's session may be led by a process outside of its container, id 0.
    leader = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        created = psutil.Process(leader.pid).create_time()
        record(tmp_path, pid=leader.pid, created=created)
        assert processes.alive(tmp_path)
        assert leader.pid in processes.members(tmp_path)
        record(tmp_path, pid=leader.pid, created=created - 1e6)
        assert not processes.alive(tmp_path)
        assert processes.members(tmp_path) == []
    finally:
        leader.kill()
        leader.wait()


def record(attempt, **fields):
    """Write who supervises a try, as its supervisor does."""
    (attempt / "process.json").write_text(json.dumps({"created": 0.0, "boot": bare.boot(), **fields}))


@pytest.fixture
def stranger():
    """A process of another program: its session's leader, whose pid it gives too, is gone."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    leader = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    left = psutil.Process(int(leader.communicate()[0]))
    yield left, leader.pid
    with contextlib.suppress(psutil.NoSuchProcess):
        left.kill()


@pytest.mark.parametrize("safe", [False, "ended", "ended in an earlier version", "started again"])
def test_a_stranger_in_a_session_with_a_used_id_is_left_alone(tmp_path, stranger, safe):
    left, session = stranger
    record(tmp_path, pid=session, **({"boot": "another"} if safe == "started again" else {}))
    if safe == "ended":
        (tmp_path / "exit-0.json").write_text("{}")
    if safe == "ended in an earlier version":
        (tmp_path / "exit.json").write_text('{"state": "succeeded"}')
    processes.stop(tmp_path, grace_seconds=0.5)
    # Without either sign it is what a killed supervisor leaves, and has to go.
    assert runs(left.pid) == bool(safe)


def test_a_cancel_waits_for_the_supervisor_that_is_about_to_end(backend, submit):
    handle = submit()
    wait_for(lambda: pids(backend, handle), what="the start")
    pid = agent(backend, handle)
    backend.cancel(handle)
    assert not runs(pid)
    assert backend.describe(handle).state is JobState.CANCELLED


def test_what_stops_the_supervisor_is_reported_and_not_tried_again(backend, submit, tmp_path):
    (tmp_path / "home").mkdir()
    # A file where the folder should be: permissions do not stop root.
    (tmp_path / "home" / "venvs").touch()
    handle = submit(files={"requirements.txt": "no-such-library\n"})
    wait_for(lambda: backend.describe(handle).state.is_terminal, what="the end")
    status = backend.describe(handle)
    assert (status.state, status.retryable) == (JobState.FAILED, False)
    assert re.match(r"the job could not be run: FileExistsError: .*/home/venvs'", status.reason)
    assert "FileExistsError" in backend.logs(handle)[0]


def test_the_memory_that_was_taken_is_reported_in_bytes():
    assert process_tree.in_bytes(100, platform="darwin") == 100
    assert process_tree.in_bytes(100, platform="linux") == 100 * 1024


def test_a_supervisor_that_comes_too_late_does_not_begin(backend, submit):
    handle = submit()
    assert not bare.claim(attempt(backend, handle), "another supervisor")
    fresh = backend.folder(handle) / "try-2"
    fresh.mkdir()
    processes.abandon(fresh)
    assert not bare.claim(fresh, "supervisor")


def test_a_try_that_never_began_is_passed_over(backend, submit):
    handle = submit()
    finish(backend, handle)
    dead = backend.folder(handle).parent / "g1"
    (dead / "try-1").mkdir(parents=True)
    second = submit(clear_number=1)
    assert backend.folder(second).name == "g2", "a generation without its record is not trusted"
    assert finish(backend, second).state is JobState.SUCCEEDED


def test_a_killed_try_without_an_exit_is_followed_by_the_next(backend, submit):
    handle = submit()
    finish(backend, handle)
    lose(backend, handle)
    assert backend.describe(handle).retryable
    assert submit().attempt == 2


def test_a_job_keeps_to_the_cores_that_it_asked_for(backend, submit):
    handle = submit(options=Options(cpu=1))
    assert finish(backend, handle).state is JobState.SUCCEEDED
    cores = json.loads(backend.logs(handle)[0].splitlines()[0])
    assert len(cores) == 1
    assert set(cores) <= os.sched_getaffinity(0)


def test_cores_that_the_worker_may_not_use_are_refused(backend):
    allowed = os.sched_getaffinity(0)
    job = Job(model="tiny", run="r1", key="train", stage="train", action="train")
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with pytest.raises(CapabilityMissing, match="2 CPU cores requested, this machine has 1. Set resources.cpu"):
            backend.build_request(job, Options(cpu=2))
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_home_and_a_working_folder_full_of_traps_do_no_harm(backend, submit, tmp_path, monkeypatch):
    (tmp_path / "home-of-user").write_text("a file in its place")
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-user"))
    for name in ("json.py", "psutil.py", "modelway.py", "random.py"):
        (tmp_path / name).write_text("raise RuntimeError('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    assert finish(backend, submit()).state is JobState.SUCCEEDED


def test_a_reason_that_cannot_be_read_does_not_lose_the_job(backend, submit):
    code = "import os\ndef train(job):\n    (job.folder / 'error.json').write_text('{')\n    os._exit(4)\n"
    handle = submit(code=code)
    wait_for(lambda: backend.describe(handle).state.is_terminal, what="the end")
    assert backend.describe(handle).reason == "the job's process ended with exit status 4"


def test_a_fetch_that_was_cut_off_leaves_nothing_behind(backend, submit):
    handle = submit()
    finish(backend, handle)
    lose(backend, handle)
    (backend.folder(handle) / ".code.0123").mkdir()
    submit()
    assert not list(backend.folder(handle).glob(".code.*"))


def test_the_jobs_part_of_the_library_is_copied_once(backend, submit, tmp_path):
    finish(backend, submit())
    finish(backend, submit(key="other"))
    (runner,) = (tmp_path / "home" / "jobs" / ".runner").iterdir()
    modules = sorted(path.relative_to(runner).as_posix() for path in runner.rglob("*.py"))
    others = [name for name in modules if not name.startswith("modelway/job/")]
    assert others == ["modelway/__init__.py", "modelway/sketches.py", "modelway/torch_program.py"]
    assert {"modelway/job/agent/__main__.py", "modelway/job/freezing/freeze.py"} <= set(modules)


@pytest.fixture
def requirements(tmp_path):
    def write(text, name="requirements.txt"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n# only a comment\n   # another\n",
        "numpy",
        "numpy>=1,<99  # why",
        "numpy\t# why",
        "\ufeffnumpy\r\npyyaml\r\n",
        "NumPy\nPyYAML\nruamel.yaml; python_version < '3'\n",
        "numpy \\\n  >=1\n",
        "--index-url https://user:password@example.org/simple\n--extra-index-url=https://example.org\nnumpy\n",
        "-i https://example.org\n-f wheels\n--find-links wheels\n--no-index\n--pre\n--prefer-binary\nnumpy",
        "numpy --hash=sha256:abc \\\n  --hash=sha256:def\n",
        "psutil[]",
    ],
)
def test_what_is_there_is_satisfied(requirements, text):
    assert agent_requirements.unsatisfied(requirements(text)) == []


@pytest.mark.parametrize(
    "line",
    [
        "no-such-library",
        "numpy<1",
        "numpy==0.0.1",
        "this is no requirement",
        "numpy @ file:///numpy.whl",
        "./wheels/tinylib-1.0-py3-none-any.whl",
        "-e ./library",
        "-c constraints.txt",
        "-r missing.txt",
        "httpx[no-such-extra, brotli]",
    ],
)
def test_what_is_missing_is_named(requirements, line):
    assert agent_requirements.unsatisfied(requirements(f"numpy\n{line}  # why\n")) == [line]


def test_included_files_are_followed(requirements):
    requirements("no-such-library\n-r requirements.txt\n-r third.txt", "more.txt")
    requirements("another-library", "third.txt")
    found = agent_requirements.unsatisfied(requirements("-r more.txt\nnumpy\n"))
    assert found == ["no-such-library", "-r requirements.txt", "another-library"]


def test_the_environment_is_known_by_everything_that_it_is_made_of(requirements, tmp_path):
    def key():
        return agent_requirements.environment_key(tmp_path / "requirements.txt")

    wheel = write_wheel(tmp_path, "tinylib", "1.0", value=1)
    requirements("-r more.txt\n-c limits.txt\n")
    requirements(f"./{wheel.name}\n", "more.txt")
    requirements("numpy<9\n", "limits.txt")
    found = [key()]
    assert key() == found[0]
    write_wheel(tmp_path, "tinylib", "1.0", value=2)
    found.append(key())
    requirements("numpy<8\n", "limits.txt")
    found.append(key())
    requirements(f"./{wheel.name}\nanother\n", "more.txt")
    found.append(key())
    assert len(set(found)) == 4


def test_a_password_in_a_requirement_is_not_logged(requirements, tmp_path):
    file = requirements("--no-index\ntinylib @ https://user:s3cret@127.0.0.1:9/tinylib-1.0-py3-none-any.whl\n")
    (tmp_path / "venvs").mkdir()
    # A file where the environment would be ends it before anything is installed.
    (tmp_path / "venvs" / agent_requirements.environment_key(file)).touch()
    said = []
    with pytest.raises(agent_requirements.RequirementsFailed, match="exit status 1"):
        agent_requirements.python_for(requirements=file, scratch=tmp_path, venvs=tmp_path / "venvs", say=said.append)
    text = "\n".join(said)
    assert "making a virtual environment for tinylib @ https://****@127.0.0.1:9/" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("before", "after", "returncode", "alone", "expected"),
    [
        (3, 3, -9, False, False),
        (3, 4, -9, False, True),
        # The worker's group has other processes, of which the kernel may have killed one meanwhile.
        (3, 4, 1, False, False),
        (3, 4, 1, True, True),
        (None, None, -9, False, False),
        (None, None, -9, True, None),
    ],
)
def test_a_job_that_the_kernel_killed_for_memory_is_reported_from_one_that_somebody_killed(
    monkeypatch, before, after, returncode, alone, expected
):
    monkeypatch.setattr(memory, "kills", lambda: after)
    assert memory.killed_one_of(before, returncode=returncode, alone=alone) is expected


def test_what_an_earlier_version_left_is_read_as_it_is(backend, submit, tmp_path):
    handle = submit()
    assert finish(backend, handle).state is JobState.SUCCEEDED
    place = attempt(backend, handle)
    lose(backend, handle)
    (place / "exit.json").write_text(json.dumps({"state": "succeeded", "seconds": 2.5, "peak_memory_bytes": 7}))
    (place / "log-0.txt").rename(place / "log.txt")
    assert (backend.describe(handle).state, backend.describe(handle).seconds) == (JobState.SUCCEEDED, 2.5)
    assert backend.logs(handle)[0]
    assert submit() == handle, "it is not done again"


def test_the_newest_generation_is_found_where_each_counted_its_attempts(backend, submit):
    """As earlier versions did: the first generation's attempts may have the higher numbers."""
    first = submit()
    finish(backend, first)
    second = submit(clear_number=1)
    shutil.copytree(attempt(backend, first), backend.folder(first) / "try-7")
    assert submit(clear_number=1) == second, "it runs"
    backend.cancel(second)
    third = submit(clear_number=1)
    assert (third.place, third.attempt) == (second.place, 8)


def test_a_link_among_a_jobs_tries_does_not_lead_to_another_job(backend, submit):
    victim, other = submit(key="other"), submit()
    for name in ("try-9", "try-x"):
        (backend.folder(other) / name).symlink_to(attempt(backend, victim))
    (backend.folder(other).parent / "g9").symlink_to(backend.folder(victim))
    left = backend.unfinished(run="r1")
    assert sorted((one.place, one.attempt) for one in left) == sorted([(victim.place, 1), (other.place, 1)])
    backend.cancel(other)
    assert submit(run="r1").attempt == 2
    assert backend.describe(victim).state is JobState.RUNNING
