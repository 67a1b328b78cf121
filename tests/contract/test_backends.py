"""What every backend promises; a new file in the room is tested by being there."""

import json
import multiprocessing
import os
import signal
import threading
import time
import uuid
from dataclasses import replace

import pytest
from modelway.backends.base import Handle, Job, JobState, JobStatus, load_backend
from modelway.errors import CapabilityMissing, DigestMismatch, NotWritable
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import (
    WAITS,
    ended,
    go,
    pid_of,
    put,
    runs,
    starts,
    store_code,
    store_text,
    succeeded,
    wait_for,
    written,
)

#: one checkpoint a step; kills itself after the second the first time
DIES = """
import os, signal
def train(job):
    found = job.resume_from()
    start = found.step if found else 0
    for step in range(start + 1, 5):
        job.log(step=step, loss=1 / step)
        with job.checkpoint(step=step) as path: path.write_text(str(step))
        if step == 2 and not found:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_job_runs_to_its_end(backend, jobs, tmp_path):
    code = (
        "import json\ndef train(job):\n"
        "    print('hello')\n"
        "    with job.checkpoint(step=1) as path:\n"
        "        path.write_text(json.dumps([job.params, job.seed, job.start_from.read_text()]))\n"
    )
    given = store_text(tmp_path / "input", "before")
    handle = jobs(code, params={"lr": 0.1}, seed=4, inputs={"checkpoint": given})
    status = succeeded(backend, handle)
    assert status.reason is None
    assert status.seconds > 0
    assert status.peak_memory_bytes > 1_000_000
    (checkpoint,) = recorded_checkpoints(backend.folder(handle))
    assert json.loads(checkpoint.path.read_text()) == [{"lr": 0.1}, 4, "before"]
    assert "hello\n" in backend.logs(handle)[0]


def test_handles_and_statuses_are_plain_data(backend, jobs):
    handle = jobs("def train(job): ...\n")
    assert Handle.from_dict(json.loads(json.dumps(handle.to_dict()))) == handle
    status = succeeded(backend, handle)
    assert JobStatus.from_dict(json.loads(json.dumps(status.to_dict()))) == status
    assert len(handle.name) <= 63


def test_a_request_is_pure_and_comparable(backend, home, options, run):
    job = Job(model="tiny", run=run, key="train", stage="train", action="train", params={"lr": 0.1})
    request = backend.build_request(job, replace(options, cpu=1))
    assert request == backend.build_request(job, replace(options, cpu=1))
    assert request != backend.build_request(job, replace(options, cpu=None))
    assert "lr" in repr(request)
    assert not home.exists(), "nothing was written"


def test_a_running_job_is_adopted(backend, jobs):
    handle = jobs(WAITS)
    pid = written(backend, handle)
    assert backend.describe(handle).state is JobState.RUNNING
    assert jobs(WAITS) == handle
    go(backend, handle)
    succeeded(backend, handle)
    assert jobs(WAITS) == handle
    assert written(backend, handle) == pid
    assert starts(backend, handle) == 1


def test_a_job_is_found_again_by_another_process(backend, home, connected, jobs, name):
    handle = jobs(WAITS)
    pid_of(backend, handle)
    other = load_backend(name, home=home, client=connected)
    found = Handle.from_dict(handle.to_dict())
    assert other.describe(found).state is JobState.RUNNING
    other.cancel(found)
    assert backend.describe(handle).state is JobState.CANCELLED


@pytest.mark.parametrize("other", [{"model": "other"}, {"run": "r2-" + uuid.uuid4().hex[:12]}, {"key": "train_2"}])
def test_another_model_run_or_key_is_another_job(backend, jobs, other):
    first, second = jobs(WAITS), jobs(WAITS, **other)
    assert first.name != second.name
    assert pid_of(backend, first) != pid_of(backend, second)
    backend.cancel(first)
    assert backend.describe(second).state is JobState.RUNNING


def test_a_succeeded_job_is_done_anew_after_a_clear(backend, jobs):
    code = "def train(job):\n    with job.checkpoint(step=1) as path: path.write_text('x')\n"
    first = jobs(code)
    succeeded(backend, first)
    second = jobs(code, clear_number=1)
    succeeded(backend, second)
    assert backend.folder(first) != backend.folder(second)
    assert len(recorded_checkpoints(backend.folder(second))) == 1
    assert jobs(code, clear_number=1) == second


def test_a_killed_job_may_be_tried_again_and_continues_from_its_last_checkpoint(backend, jobs):
    first = jobs(DIES)
    status = ended(backend, first)
    assert (status.state, status.retryable) == (JobState.FAILED, True)
    assert "SIGKILL" in status.reason
    second = jobs(DIES, clear_number=1)
    assert second.attempt == first.attempt + 1
    assert backend.folder(second) == backend.folder(first)
    succeeded(backend, second)
    assert "resuming from checkpoint train-000002 (step 2)" in backend.logs(second)[0]
    assert [each.step for each in recorded_checkpoints(backend.folder(second))] == [1, 2, 3, 4]


def test_a_killed_command_may_be_tried_again(backend, jobs):
    handle = jobs("", command=("sh", "-c", "kill -9 $$"))
    status = ended(backend, handle)
    assert (status.state, status.retryable) == (JobState.FAILED, True)


def test_other_parameters_are_another_piece_of_work(backend, jobs):
    first = jobs(WAITS, params={"lr": 0.1})
    pid = pid_of(backend, first)
    second = jobs(WAITS, params={"lr": 0.2})
    assert backend.folder(second) != backend.folder(first)
    assert not runs(pid), "the job with the old parameters was stopped"
    pid_of(backend, second)
    assert json.loads((backend.folder(second) / "job.json").read_text())["params"] == {"lr": 0.2}


def test_a_parameter_that_is_nan_is_the_same_again(backend, jobs):
    first = jobs("def train(job): ...\n", params={"clip": float("nan")})
    succeeded(backend, first)
    assert jobs("def train(job): ...\n", params={"clip": float("nan")}) == first


def _submit(name, home, connected, job, options, results, together=None):
    backend = load_backend(name, home=home, client=connected)
    if together:
        together.wait(timeout=60)
    results.put(backend.submit(backend.build_request(job, options)))


def test_submits_at_the_same_time_start_one_process(backend, name, home, connected, options, jobs, run, tmp_path):
    package = store_code(tmp_path / "source", WAITS)
    job = Job(model="tiny", run=run, key="train", stage="train", action="train", module="tiny.py", code=package)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    together = context.Barrier(4)
    submitters = [
        context.Process(target=_submit, args=(name, home, connected, job, options, results, together)) for _ in range(4)
    ]
    for submitter in submitters:
        submitter.start()
    handles = [results.get(timeout=60) for _ in submitters]
    for submitter in submitters:
        submitter.join(timeout=30)
    handle = jobs(WAITS)
    assert {handle, *handles} == {handle}
    go(backend, handle)
    succeeded(backend, handle)
    assert starts(backend, handle) == 1


def test_code_that_raises_is_reported_and_not_worth_a_retry(backend, jobs):
    handle = jobs("def train(job):\n    print('about to divide')\n    1 / 0\n")
    status = ended(backend, handle)
    assert (status.state, status.retryable) == (JobState.FAILED, False)
    assert status.reason == "ZeroDivisionError: division by zero (tiny.py:3 in train)"
    assert "about to divide" in backend.logs(handle)[0]


def test_a_process_that_ends_without_a_word_is_reported_by_its_status(backend, jobs):
    handle = jobs("import os\ndef train(job):\n    os._exit(3)\n")
    status = ended(backend, handle)
    assert (status.state, status.reason) == (JobState.FAILED, "the job's process ended with exit status 3")
    again = jobs("import os\ndef train(job):\n    os._exit(3)\n")
    assert again.attempt == handle.attempt + 1


GRANDCHILDREN = """
import os, signal, subprocess, sys, time
STUBBORN = ("import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(300)")
def train(job):
    for name, session in (('grandchild', False), ('far', True)):
        subprocess.Popen([sys.executable, '-c', STUBBORN, str(job.output / name)], start_new_session=session)
    (job.output / 'pid').write_text(str(os.getpid()))
    while not (job.output / 'go').exists():
        time.sleep(0.02)
    if (job.output / 'go').read_text() == 'die':
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_cancel_ends_everything_that_the_job_started(backend, jobs):
    handle = jobs(GRANDCHILDREN)
    pids = [pid_of(backend, handle, name) for name in ("pid", "grandchild", "far")]
    assert all(runs(pid) for pid in pids)
    begun = time.monotonic()
    backend.cancel(handle)
    assert time.monotonic() - begun < 5, "who heeds SIGTERM is not waited for"
    assert not any(runs(pid) for pid in pids)
    status = backend.describe(handle)
    assert (status.state, status.reason) == (JobState.CANCELLED, "the job was cancelled")
    backend.cancel(handle)
    assert backend.describe(handle) == status


@pytest.mark.parametrize("word", ["end", "die"])
def test_nothing_is_left_of_a_job_that_ends(backend, jobs, word):
    handle = jobs(GRANDCHILDREN)
    pids = [pid_of(backend, handle, name) for name in ("pid", "grandchild", "far")]
    put(backend, handle, "go", word)
    status = ended(backend, handle)
    assert status.state is (JobState.SUCCEEDED if word == "end" else JobState.FAILED)
    assert not any(runs(pid) for pid in pids)


def test_cancel_leaves_a_job_alone_that_is_over(backend, jobs):
    handle = jobs("def train(job): ...\n")
    before = succeeded(backend, handle)
    backend.cancel(handle)
    assert backend.describe(handle) == before


def test_a_cancelled_job_can_be_asked_for_again(backend, jobs):
    first = jobs(WAITS)
    pid_of(backend, first)
    backend.cancel(first)
    second = jobs(WAITS)
    assert second.attempt == first.attempt + 1
    go(backend, second)
    succeeded(backend, second)


def test_a_job_that_takes_too_long_is_stopped(backend, options, jobs):
    handle = jobs(WAITS, options=replace(options, timeout_seconds=5))
    pid = pid_of(backend, handle)
    status = ended(backend, handle)
    assert (status.state, status.retryable) == (JobState.FAILED, False)
    assert status.reason == "stopped after its timeout of 5 seconds"
    assert not runs(pid)


def test_a_job_that_takes_too_much_memory_is_stopped(backend, options, jobs):
    if "memory_limit" not in backend.capabilities:
        pytest.skip("the backend limits no memory")
    code = "import time\ndef train(job):\n    data = bytearray(b'x') * (200 << 20)\n    time.sleep(60)\n"
    status = ended(backend, jobs(code, options=replace(options, memory_bytes=100 << 20)))
    assert (status.state, status.retryable) == (JobState.FAILED, False)
    assert status.reason.startswith("out of memory: ")
    assert status.reason.endswith("the limit is 100 MiB")


def test_the_memory_of_child_processes_counts(backend, options, jobs):
    if "memory_limit" not in backend.capabilities:
        pytest.skip("the backend limits no memory")
    child = "import time; data = bytearray(b'x') * (200 << 20); time.sleep(60)"
    code = (
        f"import subprocess, sys\ndef train(job):\n    subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
    )
    status = ended(backend, jobs(code, options=replace(options, memory_bytes=100 << 20)))
    assert status.reason.startswith("out of memory: ")


def test_more_cores_than_there_are_are_refused_before_anything_runs(backend, home, options, run):
    job = Job(model="tiny", run=run, key="train", stage="train", action="train")
    with pytest.raises(CapabilityMissing, match="100000 CPU cores requested"):
        backend.build_request(job, replace(options, cpu=100_000))
    assert not home.exists()


def test_more_gpus_than_there_are_are_refused_before_anything_runs(backend, name, home, options, run):
    job = Job(model="tiny", run=run, key="train", stage="train", action="train")
    with pytest.raises(CapabilityMissing, match=f"1000 GPU requested, the backend '{name}' has"):
        backend.build_request(job, replace(options, gpu=1000))
    assert not home.exists()


def test_the_log_is_read_on_from_where_it_was_left(backend, jobs):
    code = (
        "import time\ndef train(job):\n"
        "    print('first')\n    print('sec', end='', flush=True)\n"
        "    while not (job.output / 'go').exists(): time.sleep(0.02)\n"
        "    print('ond')\n    print('last without an end', end='')\n"
    )
    handle = jobs(code)
    text, offset = wait_for(lambda: (found := backend.logs(handle)) and found[0] and found, what="the first line")
    assert (text, offset) == ("first\n", 6), "a line that is not whole yet is kept back"
    assert backend.logs(handle, offset=offset) == ("", offset)
    go(backend, handle)
    succeeded(backend, handle)
    rest, end = backend.logs(handle, offset=offset)
    assert rest.removesuffix("\n") == "second\nlast without an end"
    assert backend.logs(handle, offset=end) == ("", end)


def test_a_log_of_many_blocks_and_a_line_longer_than_a_block_are_read_to_the_end(backend, jobs):
    code = "def train(job):\n    print('x' * 3_000_000)\n    print('y\\n' * 1_000_000)\n    print('end', end='')\n"
    handle = jobs(code)
    succeeded(backend, handle)
    read, offset = [], 0
    while True:
        text, after = backend.logs(handle, offset=offset)
        if after == offset:
            break
        read.append(text)
        offset = after
    # The end of the last line may be added: two jobs' logs in one file must not share a line.
    assert "".join(read).removesuffix("\n") == "x" * 3_000_000 + "\n" + "y\n" * 1_000_000 + "\nend"


def test_a_home_that_cannot_be_written_is_reported(backend, home, options, run):
    home.write_text("a file in its place")
    job = Job(model="tiny", run=run, key="train", stage="train", action="train")
    with pytest.raises(NotWritable, match="MODELWAY_HOME"):
        backend.submit(backend.build_request(job, options))


@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 2), os.unlink, lambda path: path.write_text("other")])
def test_a_damaged_input_is_refused_and_nothing_starts(backend, jobs, tmp_path, harm):
    given = store_text(tmp_path / "input", "checkpoint")
    harm(type(tmp_path)(given.uri.removeprefix("file://")))
    with pytest.raises(DigestMismatch, match="(?i)run the stage that made it again"):
        jobs(WAITS, inputs={"checkpoint": given})
    whole = store_text(tmp_path / "input", "checkpoint")
    handle = jobs(WAITS, inputs={"checkpoint": whole})
    go(backend, handle)
    succeeded(backend, handle)
    assert starts(backend, handle) == 1


def test_a_damaged_code_package_is_refused(backend, options, run, tmp_path):
    package = store_code(tmp_path / "source", WAITS)
    os.truncate(package.uri.removeprefix("file://"), 20)
    job = Job(model="tiny", run=run, key="train", stage="train", action="train", module="tiny.py", code=package)
    with pytest.raises(DigestMismatch):
        backend.submit(backend.build_request(job, options))


def test_describing_while_the_job_ends_never_calls_it_lost(backend, jobs):
    handle = jobs(WAITS)
    pid_of(backend, handle)
    states, over = set(), threading.Event()

    def watch():
        while not over.is_set():
            states.add(backend.describe(handle).state)

    watcher = threading.Thread(target=watch)
    watcher.start()
    go(backend, handle)
    succeeded(backend, handle)
    over.set()
    watcher.join(timeout=60)
    assert states <= {JobState.RUNNING, JobState.SUCCEEDED}


def test_a_job_outlives_the_process_that_submitted_it(backend, name, home, connected, options, run, tmp_path, jobs):
    package = store_code(tmp_path / "source", WAITS)
    job = Job(model="tiny", run=run, key="train", stage="train", action="train", module="tiny.py", code=package)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    submitter = context.Process(target=_submit, args=(name, home, connected, job, options, results))
    submitter.start()
    handle = results.get(timeout=60)
    os.kill(submitter.pid, signal.SIGKILL)
    submitter.join(timeout=30)
    assert jobs(WAITS) == handle
    go(backend, handle)
    succeeded(backend, handle)


def test_an_unknown_backend_is_refused_with_those_that_are_known(home):
    with pytest.raises(CapabilityMissing, match=r"'locale' is not a backend\. Known: .*Did you mean 'local'\?"):
        load_backend("locale", home=home)
