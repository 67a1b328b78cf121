"""``python -m modelway.job.agent`` as the first process of a container: what it runs, reports and leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from modelway.failures import FailureKind
from modelway.job import left_files
from modelway.job.agent import lease
from modelway.job.agent.exit_report import STATUS_OF_KIND, decisive, report_of
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import runs, wait_for, write_job, write_wheel

PLUGINS = Path(__file__).parents[2] / "plugins"
CHECKPOINTS = """
import time
def train(job):
    begun = job.resume_from().step if job.resume_from() else 0
    for step in range(begun + 1, 500):
        time.sleep(0.02)
        with job.checkpoint(step=step) as path:
            path.write_text(str(step))
"""
WAITS = """
import os, time
def train(job):
    (job.output / 'pid').write_text(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    """Start agents of the job in ``tmp_path / 'job'``; those that still run at the end are killed."""
    agents = []

    def started(code=None, *words, attempt=1, python=sys.executable, environment=None, **fields):
        folder = tmp_path / "job"
        if code is not None:
            write_job(folder, code=code, **fields)
        agents.append(
            subprocess.Popen(
                [python, "-m", "modelway.job.agent", folder, "--attempt", str(attempt), *map(str, words)],
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), **(environment or {})},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return agents[-1]

    yield started
    for agent in agents:
        if agent.poll() is None:
            agent.kill()
        agent.wait(timeout=60)
        agent.stdout.close()


@pytest.fixture
def job(tmp_path):
    return tmp_path / "job"


def ended(job, attempt=1, node=0):
    return json.loads((job / f"try-{attempt}" / f"exit-{node}.json").read_text())


def finish(agent, *, seconds=30):
    output, _ = agent.communicate(timeout=seconds)
    return agent.returncode, output


def test_a_job_that_succeeds_is_reported_and_leaves_no_heartbeat(start, job):
    status, output = finish(start("import sys\ndef train(job):\n    print('one')\n    print('two', file=sys.stderr)\n"))
    assert (status, output) == (0, "one\ntwo\n")
    reported = ended(job)
    assert (reported["returncode"], reported["signal"], reported["reason"], reported["kind"]) == (0, None, None, None)
    assert (reported["out_of_memory"], reported["stopped"]) == (False, False)
    assert reported["seconds"] > 0
    assert 5e6 < reported["peak_memory_bytes"] < 5e8
    assert (job / "try-1" / "log-0.txt").read_text() == "one\ntwo\n"
    assert list((job / "try-1" / "pods").iterdir()) == []


def test_code_that_raises_is_reported_by_its_own_reason(start, job):
    status, output = finish(start("def train(job):\n    raise ValueError('too small')\n"))
    reported = ended(job)
    assert status == 1
    assert (reported["returncode"], reported["kind"]) == (1, "bad_exit")
    assert reported["reason"] == "ValueError: too small (tiny.py:2 in train)"
    assert "Traceback" in output


def test_the_reason_of_an_earlier_try_is_not_this_ones(start, job):
    finish(start("def train(job):\n    raise ValueError('too small')\n"))
    status, _ = finish(start("import os\ndef train(job):\n    os._exit(7)\n", attempt=2))
    assert status == 1
    assert ended(job, 2)["reason"] == "the job's process ended with exit status 7"
    assert ended(job, 2)["returncode"] == 7


def test_a_killed_process_is_reported_by_its_signal(start, job):
    status, _ = finish(start("import os, signal\ndef train(job):\n    os.kill(os.getpid(), signal.SIGKILL)\n"))
    reported = ended(job)
    assert status == 137
    assert (reported["returncode"], reported["signal"], reported["kind"]) == (None, "SIGKILL", "killed")
    assert reported["reason"] == "the job's process was killed by SIGKILL"


def test_a_job_that_takes_too_long_is_ended(start, job):
    agent = start(WAITS, "--timeout", 0.5)
    status, _ = finish(agent)
    reported = ended(job)
    assert (status, reported["kind"], reported["reason"]) == (
        124,
        "deadline",
        "stopped after its timeout of 0.5 seconds",
    )
    assert not runs(int((job / "output" / "pid").read_text()))


def test_every_kind_that_is_reported_is_a_kind_of_failure():
    assert set(STATUS_OF_KIND) <= {kind.value for kind in FailureKind}


def test_a_folder_that_is_none_is_reported(start, job):
    job.mkdir()
    status, output = finish(start())
    assert status == 2
    assert "the job's folder cannot be used: FileNotFoundError" in output


def test_the_log_holds_whole_lines_while_the_job_runs(start, job):
    code = (
        "import os, sys, time\n"
        "def train(job):\n"
        "    os.write(1, b'first\\nsec')\n"
        "    while not (job.output / 'go').exists(): time.sleep(0.02)\n"
        "    os.write(1, b'ond\\n' + b'x' * 200000 + b'\\nlast')\n"
    )
    agent = start(code)
    log = job / "try-1" / "log-0.txt"
    wait_for(lambda: log.exists() and log.read_text(), what="the first line")
    assert log.read_text() == "first\n"
    (job / "output" / "go").touch()
    status, output = finish(agent)
    assert status == 0
    assert output == log.read_text() == "first\nsecond\n" + "x" * 200000 + "\nlast\n"


def test_what_the_job_left_running_is_ended(start, job):
    code = (
        "import subprocess, sys, time\n"
        "def train(job):\n"
        "    sleeper = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "    (job.output / 'pid').write_text(str(sleeper.pid))\n"
    )
    begun = time.monotonic()
    status, _ = finish(start(code))
    assert status == 0
    assert time.monotonic() - begun < 20
    assert not runs(int((job / "output" / "pid").read_text()))


def test_a_job_that_is_requested_to_leave_stops_after_its_checkpoint_and_continues_from_it(start, job):
    agent = start(CHECKPOINTS)
    wait_for(lambda: len(recorded_checkpoints(job)) >= 3 if job.exists() else None, what="three checkpoints")
    agent.send_signal(signal.SIGTERM)
    status, output = finish(agent)
    reported, last = ended(job), recorded_checkpoints(job)[-1]
    assert status == 143
    assert (reported["returncode"], reported["kind"], reported["stopped"]) == (143, "killed", True)
    assert reported["reason"] == f"the job was requested to stop and stopped after checkpoint {last.id}"
    assert "stop requested: the job has 27 seconds" in output
    assert (job / "try-1" / "log-0.txt").read_text() == output
    assert last.step < 100
    again = start(attempt=2)
    wait_for(lambda: len(recorded_checkpoints(job)) > last.step, what="a further checkpoint")
    again.send_signal(signal.SIGTERM)
    status, output = finish(again)
    assert f"resuming from checkpoint {last.id}" in output
    assert [each.step for each in recorded_checkpoints(job)][: last.step + 1] == list(range(1, last.step + 2))


def test_a_job_that_does_not_leave_in_time_is_ended(start, job):
    agent = start(WAITS, "--grace", 1)
    wait_for((job / "output" / "pid").exists, what="the job")
    begun = time.monotonic()
    agent.send_signal(signal.SIGTERM)
    status, _ = finish(agent)
    reported = ended(job)
    assert status == 143
    assert 0.4 < time.monotonic() - begun < 5
    assert (reported["signal"], reported["stopped"]) == ("SIGTERM", True)
    assert reported["reason"] == "the job was requested to stop and did not end in time"


def test_a_job_that_succeeds_after_the_notice_has_succeeded(start, job):
    code = "import time\ndef train(job):\n    print('begun')\n    while not job.stopping: time.sleep(0.02)\n"
    agent = start(code)
    assert agent.stdout.readline() == "begun\n"
    agent.send_signal(signal.SIGTERM)
    status, _ = finish(agent)
    assert (status, ended(job)["kind"], ended(job)["stopped"]) == (0, None, False)


def test_code_that_raises_after_the_notice_has_failed_by_itself(start, job):
    code = (
        "import time\ndef train(job):\n    print('begun')\n    while not job.stopping: time.sleep(0.02)\n"
        "    raise ValueError('mine')\n"
    )
    agent = start(code)
    assert agent.stdout.readline() == "begun\n"
    agent.send_signal(signal.SIGTERM)
    status, _ = finish(agent)
    assert (status, ended(job)["kind"], ended(job)["stopped"]) == (1, "bad_exit", False)
    assert ended(job)["reason"].startswith("ValueError: mine")


def test_a_command_may_look_for_the_notice_and_leave(start, job):
    script = "echo begun; while [ ! -e $MODELWAY_NOTICE ]; do sleep 0.05; done; exit 143"
    agent = start("", command=("sh", "-c", script))
    assert agent.stdout.readline() == "begun\n"
    agent.send_signal(signal.SIGTERM)
    status, _ = finish(agent)
    assert (status, ended(job)["stopped"]) == (143, True)
    assert ended(job)["reason"] == "the job was requested to stop, and its command did"


def test_a_script_of_a_command_imports_what_lies_beside_it(start, job):
    write_job(job, code="", command=("python", "run.py"))
    (job / "code" / "run.py").write_text("import beside\nfrom modelway.job import Job\nprint(beside.WHAT)\n")
    (job / "code" / "beside.py").write_text("WHAT = 'beside'\n")
    status, output = finish(start())
    assert (status, output) == (0, "beside\n")


def test_two_containers_never_work_on_one_job_at_once(start, job, monkeypatch):
    first = start(WAITS)
    wait_for((job / "output" / "pid").exists, what="the first one")
    other = start(attempt=2)
    assert "waiting for" in other.stdout.readline()
    pid = int((job / "output" / "pid").read_text())
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)
    assert finish(first)[0] == 137
    wait_for(lambda: int((job / "output" / "pid").read_text() or pid) != pid, what="the second one")


def test_a_container_that_waits_may_be_requested_to_stop(start, job):
    start(WAITS)
    wait_for((job / "output" / "pid").exists, what="the first one")
    other = start(attempt=2)
    assert "waiting for" in other.stdout.readline()
    other.send_signal(signal.SIGTERM)
    assert finish(other)[0] == 143
    assert ended(job, 2)["reason"] == "the job was requested to stop before it began"


def test_a_stale_heartbeat_is_passed_over_and_a_fresh_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.01)
    attempt = tmp_path / "try-2"
    left = tmp_path / "try-1" / "pods" / "0.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"id": "gone-pod", "process": "1", "at": 0}')
    os.utime(left, (time.time() - lease.STALE_SECONDS - 1,) * 2)
    mine = lease.Lease(attempt=attempt, node=0, nodes=1)
    assert mine.enter(leave=lambda: False, say=print)
    said = []
    other = lease.Lease(attempt=attempt, node=0, nodes=1)
    assert not other.enter(leave=lambda: bool(said), say=said.append)
    assert "which still works on this job" in said[0]
    beat = attempt / "pods" / "0.json"
    os.utime(beat, (time.time() - lease.STALE_SECONDS - 1,) * 2)
    assert other.enter(leave=lambda: False, say=print)
    mine.leave()
    assert beat.exists(), "whoever lost its place does not take the other's away"
    other.leave()
    assert not beat.exists()


def test_a_container_that_lost_its_place_gives_way(start, job, monkeypatch):
    agent = start(WAITS)
    wait_for((job / "output" / "pid").exists, what="the job")
    (job / "try-1" / "pods" / "0.json").write_text('{"id": "other", "process": "other", "at": 0}')
    status, output = finish(agent)
    assert status == 137
    assert "another container has taken over this job: this one exits" in output
    assert not runs(int((job / "output" / "pid").read_text()))
    assert not (job / "try-1" / "exit-0.json").exists()
    assert (job / "try-1" / "pods" / "0.json").exists()


def test_machines_without_a_number_take_different_places(tmp_path):
    leases = [lease.Lease(attempt=tmp_path / "try-1", node=None, nodes=3) for _ in range(2)]
    assert all(each.enter(leave=lambda: False, say=print) for each in leases)
    assert [each.node for each in leases] == [1, 2]
    for each in leases:
        each.leave()


def test_what_requirements_ask_for_beyond_the_image_is_installed(start, job, tmp_path):
    wheel = write_wheel(tmp_path / "wheels", "tinywheel", "1.2", value=42)
    code = "import tinywheel, psutil\ndef train(job):\n    print('value', tinywheel.VALUE)\n"
    write_job(job, code=code)
    (job / "code" / "requirements.txt").write_text(f"psutil\n--no-index\n{wheel}  # a comment\n")
    status, output = finish(start(environment={"TMPDIR": str(tmp_path)}), seconds=120)
    assert status == 0, output
    assert "value 42\n" in output
    assert "installing requirements that this image lacks" in output
    assert not list(tmp_path.glob("modelway-*")), "the environment goes with the container"


def test_requirements_that_the_image_has_cost_nothing(start, job):
    write_job(job, code="def train(job): ...\n")
    (job / "code" / "requirements.txt").write_text("psutil>=1\npytest  # also here\nnever; python_version < '3'\n")
    assert finish(start()) == (0, "")


def test_requirements_that_cannot_be_had_are_reported(start, job):
    write_job(job, code="def train(job): ...\n")
    (job / "code" / "requirements.txt").write_text("--no-index\nno-such-package-anywhere==1\n")
    status, output = finish(start(), seconds=120)
    reported = ended(job)
    assert (status, reported["kind"]) == (2, "init")
    assert reported["reason"].startswith("requirements.txt could not be installed: No matching distribution found")
    assert "no-such-package-anywhere" in output
    assert "retryable" not in reported


def describe(tmp_path, **known):
    given = {"lines": [], "over_time": None, "killed_for_memory": False, "peak_bytes": 90 << 20, "limit_bytes": None}
    return report_of(
        **{"attempt": tmp_path, "noticed": False, "ended_by_force": False, "returncode": 1, **given, **known}
    )


def test_a_process_that_the_kernel_killed_for_memory_is_out_of_memory(tmp_path):
    report = describe(tmp_path, killed_for_memory=True, limit_bytes=100 << 20)
    assert (report.kind, report.out_of_memory, report.status) == ("out_of_memory", True, 137)
    assert report.reason == "out of memory: its processes used 90 MiB, the limit is 100 MiB"


@pytest.mark.parametrize(("peak", "kind"), [(99, "out_of_memory"), (50, "killed")])
def test_where_the_kernel_tells_nothing_a_killed_process_at_its_limit_is_out_of_memory(tmp_path, peak, kind):
    given = {"returncode": -9, "killed_for_memory": None, "peak_bytes": peak << 20, "limit_bytes": 100 << 20}
    assert describe(tmp_path, **given).kind == kind


def test_the_first_of_several_processes_to_fail_is_to_blame(tmp_path):
    for rank, (at, reason) in enumerate([(3.0, "lost connection"), (2.0, "the cause"), (4.0, "lost too")]):
        (tmp_path / f"error-{rank}.json").write_text(json.dumps({"reason": reason, "stopped": False, "at": at}))
    assert describe(tmp_path).reason == "the cause"
    (tmp_path / "error-3.json").write_text("{half")
    assert describe(tmp_path).reason == "the cause"


def test_a_process_of_several_that_was_killed_is_reported_by_torchruns_report(tmp_path):
    report = describe(tmp_path, lines=["Root Cause:", "  exitcode  : -9 (pid: 77)", "  error_file: <N/A>"])
    assert (report.kind, report.reason) == ("killed", "the job's process was killed by SIGKILL")


def test_of_several_machines_the_one_that_explains_the_failure_counts():
    fine, lost = {"kind": None}, {"kind": "bad_exit", "reason": "connection lost"}
    killed, memory = {"kind": "killed"}, {"kind": "out_of_memory"}
    stopped = {"kind": "killed", "stopped": True}
    assert decisive([]) is None
    assert decisive([fine, fine]) == fine
    assert decisive([fine, lost]) == lost
    assert decisive([lost, killed, fine]) == killed
    assert decisive([lost, memory, killed]) == memory
    assert decisive([lost, stopped, killed]) == stopped


def oldest_python():
    """Return the oldest supported interpreter that this machine has, which may be the running one."""
    found = [Path(place) / "bin" / "python" for place in (Path.home() / ".pyenv" / "versions").glob("3.9.*")]
    return str(next((each for each in found if each.exists()), shutil.which("python3.9") or sys.executable))


def test_the_jobs_part_of_the_library_reads_as_the_oldest_python(start):
    import ast

    for file in sorted((PLUGINS / "modelway" / "job").rglob("*.py")):
        ast.parse(file.read_text(), feature_version=(3, 9))
        assert "kw_only" not in file.read_text(), f"{file.name}: dataclasses have it only since 3.10"
        assert "from __future__ import annotations" in file.read_text() or file.name in (
            "__init__.py",
            "freeze.py",
            "verify.py",
        )


def test_a_job_runs_on_the_oldest_python(start, job):
    code = (
        "def train(job):\n    job.log(step=1, loss=0.5)\n"
        "    job.progress(step=1, total=2)\n    job.progress(step=2, total=2)\n"
        "    with job.checkpoint(step=1) as path: path.write_text('x')\n"
        "    job.resume_from()\n    raise ValueError('at the end')\n"
    )
    status, output = finish(start(code, python=oldest_python()))
    assert output.startswith("step 1: loss=0.5\nprogress: step 2/2 (100 %)\n"), output
    assert (status, ended(job)["reason"]) == (1, "ValueError: at the end (tiny.py:7 in train)")


def test_a_storage_that_stumbles_takes_nobodys_place(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    mine = lease.Lease(attempt=tmp_path / "try-1", node=0, nodes=1)
    assert mine.enter(leave=lambda: False, say=print)
    beat = tmp_path / "try-1" / "pods" / "0.json"
    read, looks = left_files.read_below, []

    def stumbles(folder, name, **how):
        if folder / name == beat and len(looks) < 3:
            looks.append(name)
            raise OSError(5, "Input/output error")
        return read(folder, name, **how)

    monkeypatch.setattr(left_files, "read_below", stumbles)
    wait_for(lambda: len(looks) == 3, what="three looks that fail")
    before = beat.stat().st_mtime_ns
    wait_for(lambda: beat.stat().st_mtime_ns != before, what="another beat")
    assert not mine.lost.is_set()
    mine.leave()
    assert not beat.exists()
