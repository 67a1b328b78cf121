"""What Vertex AI does to jobs that run: restarts, preemptions, the end of memory, several machines."""

import json
from dataclasses import replace

import pytest
from modelway.backends.base import JobState
from modelway.failures import FailureKind
from modelway.job.contract import recorded_checkpoints

from tests.google.vertex_jobs import VertexJobs
from tests.job_folders import WAITS, ended, folder_of, pid_of, runs, succeeded, wait_for

SECONDS = 90
#: a checkpoint a step; waits after the second for ``go``
STEPS = """
import time
def train(job):
    job.output.mkdir(exist_ok=True)
    found = job.resume_from()
    for step in range((found.step if found else 0) + 1, 4):
        print(f'step {step}', flush=True)
        with job.checkpoint(step=step) as path: path.write_text(str(step))
        while step == 2 and not (job.output / 'go').exists():
            time.sleep(0.02)
"""


@pytest.fixture
def name():
    return "vertex"


@pytest.fixture
def service(vertex):
    return vertex.service(VertexJobs)


@pytest.fixture
def job_of(service):
    return lambda handle: service.of_token(handle.mark.rpartition("/")[2])[-1]


def has_checkpoints(backend, handle, count):
    wait_for(
        lambda: len(recorded_checkpoints(backend.folder(handle))) >= count, seconds=SECONDS, what="the checkpoints"
    )


def test_a_worker_that_vertex_ai_restarts_continues_in_the_same_attempt(backend, jobs, service, job_of):
    handle = jobs(STEPS)
    has_checkpoints(backend, handle, 2)
    text, offset = wait_for(
        lambda: (found := backend.logs(handle))[0].endswith("step 2\n") and found, seconds=SECONDS, what="its log"
    )
    assert text == "step 1\nstep 2\n"
    first = folder_of(backend, handle)
    service.maintain(job_of(handle))
    assert folder_of(backend, handle) != first, "another container, with nothing in it"
    assert backend.describe(handle).state is JobState.RUNNING
    assert jobs(STEPS) == handle
    # The heartbeat of the first container has to grow old.
    rest, _ = wait_for(
        lambda: (found := backend.logs(handle, offset=offset)) and found[0] and found, seconds=SECONDS, what="its rest"
    )
    assert rest.startswith("resuming from checkpoint train-000002 (step 2)"), "the log follows what was there"
    succeeded(backend, handle, seconds=SECONDS)
    assert [each.step for each in recorded_checkpoints(backend.folder(handle))] == [1, 2, 3]
    assert backend.logs(handle)[0].endswith("step 3\n")


def test_a_spot_machine_that_is_taken_away_leaves_its_checkpoints(backend, jobs, service, job_of):
    handle = jobs(STEPS)
    has_checkpoints(backend, handle, 2)
    service.preempt(job_of(handle))
    status = ended(backend, handle)
    assert (status.failure, status.retryable) == (FailureKind.PREEMPTED, True)
    again = jobs(STEPS)
    assert (again.place, again.attempt) == (handle.place, 2)
    succeeded(backend, again, seconds=SECONDS)
    assert "resuming from checkpoint train-000002" in backend.logs(again)[0]


def test_a_machine_whose_memory_is_used_up_is_reported(backend, jobs, service, job_of):
    handle = jobs(WAITS)
    pid = pid_of(backend, handle)
    service.out_of_memory(job_of(handle))
    status = ended(backend, handle)
    assert (status.failure, status.retryable) == (FailureKind.OUT_OF_MEMORY, False)
    assert "137" in status.reason
    assert not runs(pid)


def test_what_the_code_prints_at_its_end_does_not_decide_why_it_failed(backend, jobs, job_of):
    """Vertex AI has the last lines of the log in its own message."""
    handle = jobs("def train(job): raise PermissionError('quota: permission denied')\n")
    status = ended(backend, handle)
    assert "quota: permission denied" in job_of(handle).document["error"]["message"]
    assert (status.failure, status.retryable) == (FailureKind.BAD_EXIT, False)
    assert status.reason.startswith("PermissionError: quota: permission denied")


def test_a_container_that_never_reaches_the_agent_is_reported_by_what_it_printed(backend, jobs, service, monkeypatch):
    """Such as an image that cannot read the bucket: Cloud Logging has what it printed."""
    monkeypatch.setattr(service, "broken_images", {"job": "python3: no module named gcsfs"})
    handle = jobs(WAITS)
    status = ended(backend, handle)
    assert (status.failure, status.retryable) == (FailureKind.INIT, False)
    assert backend.logs(handle) == ("python3: no module named gcsfs\n", 31)


GROUP = """
import json, os
import torch.distributed as dist
def train(job):
    dist.init_process_group('gloo')
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, os.getpid())
    print(f'rank {dist.get_rank()} of {len(set(found))}', flush=True)
    if dist.get_rank() == 0:
        with job.checkpoint(step=1) as path: path.write_text(json.dumps(len(set(found))))
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_machines_find_each_other_by_the_cluster_spec(backend, jobs, options, job_of):
    handle = jobs(GROUP, options=replace(options, nodes=2))
    status = succeeded(backend, handle, seconds=SECONDS)
    assert [replica.name for replica in job_of(handle).replicas] == ["workerpool0-0", "workerpool1-0"]
    (checkpoint,) = recorded_checkpoints(backend.folder(handle))
    assert json.loads(checkpoint.path.read_text()) == 2
    lines = backend.logs(handle)[0].splitlines()
    assert "[node 0] rank 0 of 2" in lines
    assert status.peak_memory_bytes > 1_000_000
