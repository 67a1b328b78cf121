"""Training in several processes, of one machine or of two: real torchrun, real gloo, the loss of a single process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from modelway.backends.base import Job as BackendJob
from modelway.backends.base import JobState, Options
from modelway.backends.local.backend import LocalBackend
from modelway.errors import CapabilityMissing
from modelway.job.agent import launch
from modelway.job.agent.exit_report import decisive
from modelway.job.agent.usage import usage_in
from modelway.job.contract import Job, read_events, recorded_checkpoints

from tests.job_folders import ended, store_code, wait_for, write_job

ROOT = Path(__file__).parents[2]
#: what the order of a sum over processes may change; Adam's division makes the last bits of a gradient grow
TOLERANCE = 1e-4
SAYS_WHO_IT_IS = """
import random, time
def train(job):
    print(f'I am {job.rank} of {job.world_size}, here {job.local_rank}, {random.random()}')
    job.log(step=1, loss=job.rank)
    job.note(f'from {job.rank}')
    job.progress(step=1, total=2)
    with job.checkpoint(step=1) as path:
        path.write_text(f'of {job.rank}')
    print(f'took {time.process_time()}')
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def agents(tmp_path):
    """Start agents; those that still run at the end are killed with what they started."""
    started = []

    def start(folder, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "modelway.job.agent", folder, "--attempt", "1", *map(str, words)],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "plugins"), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
            process.wait(timeout=60)


def digits(folder):
    write_job(folder, module="digits.py", params={"epochs": 3, "lr": 0.003, "batch_size": 64}, seed=1)
    shutil.copy(ROOT / "include" / "models" / "digits" / "digits.py", folder / "code")
    return folder


def losses(folder):
    return [event["value"] for event in read_events(folder) if event["kind"] == "metric"]


def log(folder, node=0):
    return (folder / "try-1" / f"log-{node}.txt").read_text()


def ending(folder, node=0):
    return json.loads((folder / "try-1" / f"exit-{node}.json").read_text())


def accounted(folder, node):
    """Return the processor seconds that one machine reported."""
    (path,) = (folder / "try-1").glob(f"usage-{node}-*.json")
    return json.loads(path.read_text())["cpu_seconds"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of digits in one process."""
    folder = digits(tmp_path_factory.mktemp("alone"))
    command = launch.command(python=sys.executable, folder=folder)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "plugins"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
    return losses(folder)


def test_two_machines_train_as_one_process_does(tmp_path, agents, alone):
    folder = digits(tmp_path / "job")
    place = ("--nodes", 2, "--rendezvous", f"127.0.0.1:{free_port()}")
    # The second has no number, as a pod of a Job without indices: it takes the place that is free.
    both = [agents(folder, "--node", node, *place) for node in (0, "any")]
    assert [process.wait(timeout=120) for process in both] == [0, 0], log(folder) + log(folder, 1)
    assert len(alone) == 3
    print("largest relative difference:", max(abs(a / b - 1) for a, b in zip(losses(folder), alone, strict=True)))
    assert losses(folder) == pytest.approx(alone, rel=TOLERANCE)
    assert [each.step for each in recorded_checkpoints(folder)] == [1, 2, 3]
    assert ending(folder, 0)["kind"] is ending(folder, 1)["kind"] is None


def test_two_processes_of_one_machine_train_as_one_does(tmp_path, agents, alone):
    folder = digits(tmp_path / "job")
    assert agents(folder, "--processes", 2).wait(timeout=120) == 0, log(folder)
    assert losses(folder) == pytest.approx(alone, rel=TOLERANCE)


def test_only_the_main_process_reports(tmp_path, agents):
    folder = write_job(tmp_path / "job", code=SAYS_WHO_IT_IS, seed=4)
    assert agents(folder, "--processes", 2).wait(timeout=120) == 0, log(folder)
    lines = [line for line in log(folder).splitlines() if "I am" in line]
    main, other = sorted(lines)
    assert main.startswith("I am 0 of 2, here 0")
    assert other.startswith("[rank 1/2] I am 1 of 2, here 1")
    assert main.split()[-1] == other.split()[-1], "all draw the same numbers"
    assert [event["kind"] for event in read_events(folder) if event["kind"] != "environment"] == [
        "metric",
        "note",
        "checkpoint",
    ]
    (checkpoint,) = recorded_checkpoints(folder)
    assert checkpoint.path.read_text() == "of 0"
    assert len(list(checkpoint.path.parent.iterdir())) == 1


def test_the_process_that_fails_first_gives_the_reason(tmp_path, agents):
    code = (
        "import time\nfrom torch import distributed\n"
        "def train(job):\n    distributed.init_process_group('gloo')\n"
        "    if job.rank == 1: raise ValueError('the cause')\n"
        "    distributed.barrier()\n"
    )
    folder = write_job(tmp_path / "job", code=code)
    assert agents(folder, "--processes", 2).wait(timeout=120) == 1
    assert ending(folder)["reason"] == "ValueError: the cause (tiny.py:5 in train)"


def test_a_killed_process_ends_the_try_on_every_machine(tmp_path, agents):
    code = (
        "import os, time\nfrom torch import distributed\n"
        "def train(job):\n    distributed.init_process_group('gloo')\n    job.output.mkdir(exist_ok=True)\n"
        "    (job.output / f'took-{job.rank}').write_text(str(time.process_time()))\n    distributed.barrier()\n"
        "    (job.output / f'pid-{job.rank}').write_text(str(os.getpid()))\n"
        "    while True: distributed.barrier()\n"
    )
    folder = write_job(tmp_path / "job", code=code)
    place = ("--nodes", 2, "--rendezvous", f"127.0.0.1:{free_port()}")
    both = [agents(folder, "--node", node, *place) for node in (0, 1)]
    pid = folder / "output" / "pid-1"
    wait_for(lambda: pid.exists() and pid.read_text(), seconds=60, what="the second machine's process")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert both[1].wait(timeout=60) == 137
    assert both[0].wait(timeout=60) != 0
    assert ending(folder, 1)["reason"] == "the job's process was killed by SIGKILL"
    assert decisive([ending(folder, 0), ending(folder, 1)]) == ending(folder, 1)
    reported = [accounted(folder, node) for node in (0, 1)]
    assert all(cpu >= float((folder / "output" / f"took-{node}").read_text()) > 0 for node, cpu in enumerate(reported))
    assert usage_in(folder) == (pytest.approx(sum(reported), abs=1e-3), 0.0), "the killed process counts, too"


def test_several_processes_leave_together_when_they_are_requested_to(tmp_path, agents):
    code = (
        "import time\nfrom torch import distributed\n"
        "def train(job):\n    distributed.init_process_group('gloo')\n"
        "    begun = job.resume_from().step if job.resume_from() else 0\n"
        "    for step in range(begun + 1, 1000):\n        distributed.barrier()\n        time.sleep(0.02)\n"
        "        with job.checkpoint(step=step) as path: path.write_text(str(step))\n"
    )
    folder = write_job(tmp_path / "job", code=code)
    agent = agents(folder, "--processes", 2)
    wait_for(lambda: len(recorded_checkpoints(folder)) > 2, seconds=60, what="checkpoints")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=60) == 143, log(folder)
    assert ending(folder)["stopped"]
    assert ending(folder)["reason"].startswith("the job was requested to stop and stopped after checkpoint train-0")


def test_the_local_backend_runs_several_processes(tmp_path):
    backend = LocalBackend(home=tmp_path / "home")
    assert "multi_process" in backend.capabilities
    asked = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", "module": "tiny.py"}
    job = BackendJob(**asked, code=store_code(tmp_path / "source", SAYS_WHO_IT_IS))
    handle = backend.submit(backend.build_request(job, Options(processes_per_node=2)))
    try:
        status = ended(backend, handle, seconds=60)
        text, _ = backend.logs(handle)
        assert status.state is JobState.SUCCEEDED, text
        assert "I am 0 of 2" in text
        assert "[rank 1/2] I am 1 of 2" in text
        took = [float(line.split()[-1]) for line in text.splitlines() if "took" in line]
        assert len(took) == 2
        assert usage_in(backend.folder(handle))[0] >= sum(took)
    finally:
        backend.cancel(handle)


def test_the_local_backend_has_one_machine(tmp_path):
    backend = LocalBackend(home=tmp_path / "home")
    job = BackendJob(model="tiny", run="r1", key="train", stage="train", action="train")
    with pytest.raises(
        CapabilityMissing, match="2 nodes requested, the backend 'local' has only this machine"
    ) as reported:
        backend.build_request(job, Options(nodes=2))
    assert "processes_per_node may be more" in str(reported.value)


def test_a_process_that_does_not_report_knows_what_it_was_asked(tmp_path, monkeypatch):
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    job = Job(write_job(tmp_path / "job"))
    assert (job.rank, job.local_rank, job.world_size, job.is_main) == (3, 1, 4, False)
    with job.checkpoint(step=1) as path:
        path.write_text("x")
    assert not path.exists()
    job.log(step=1, loss=1)
    assert read_events(job.folder) == []


def test_the_command_of_one_process_is_plain_and_of_several_is_torchruns(tmp_path):
    assert launch.command(python="py", folder=Path("/j")) == ["py", "-m", "modelway.job", "/j"]
    one = launch.command(python="py", folder=Path("/j"), processes=4)
    assert "--standalone" in one
    assert one[-3:] == ["-m", "modelway.job", "/j"]
    two = launch.command(python="py", folder=Path("/j"), node=1, nodes=2, processes=4, rendezvous="job-0.jobs:29500")
    assert " ".join(two) == (
        "py -m torch.distributed.run --nproc-per-node 4 --max-restarts 0 --nnodes 2 --node-rank 1 "
        "--master-addr job-0.jobs --master-port 29500 -m modelway.job /j"
    )
