"""Training on several nodes that is cut off continues, on all of them, from the last checkpoint: on a real cluster."""

from dataclasses import replace

import pytest
from modelway.backends.base import JOB_IMAGE
from modelway.failures import FailureKind
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import ended, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

#: adds up the steps of all ranks; in the first attempt rank 1 dies at step 3, while rank 0 waits for it
SUMS = """
import os, signal
import torch
from torch import distributed

def train(job):
    distributed.init_process_group('gloo')
    found = job.resume_from()
    begun, value = (found.step, float(found.path.read_text())) if found else (0, 0.0)
    print(f'rank {job.rank} of {job.world_size} begins after step {begun} with {value:g}', flush=True)
    for step in range(begun + 1, 6):
        mark = job.folder / 'died'
        if step == 3 and job.rank == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        gained = torch.tensor([float(step * (job.rank + 1))])
        distributed.all_reduce(gained)
        value += gained.item()
        if job.is_main:
            with job.checkpoint(step=step) as path: path.write_text(str(value))
        distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.fixture
def name():
    return "kubernetes"


def test_when_a_node_dies_the_next_attempt_begins_on_both_from_the_last_checkpoint(backend, jobs, options):
    options = replace(options, cpu=0.6, memory_bytes=1 << 30, image=JOB_IMAGE, nodes=2)
    first = jobs(SUMS, options=options, seed=1)
    status = ended(backend, first, seconds=180)
    assert (status.failure, status.retryable) == (FailureKind.KILLED, True), status
    backend.cancel(first)
    assert [checkpoint.step for checkpoint in recorded_checkpoints(backend.folder(first))] == [1, 2]

    second = jobs(SUMS, options=options, seed=1)
    assert (second.attempt, second.place) == (first.attempt + 1, first.place)
    succeeded(backend, second, seconds=180)
    text, _ = backend.logs(second)
    assert {f"rank {rank} of 2 begins after step 2 with 9" for rank in (0, 1)} <= {
        line.split("] ")[-1] for line in text.splitlines()
    }, text
    kept = recorded_checkpoints(backend.folder(second))
    assert [checkpoint.step for checkpoint in kept] == [1, 2, 3, 4, 5]
    # As if nothing had happened: each step gains as much as it has nodes, one and two times its number.
    assert float(kept[-1].path.read_text()) == 3 * (1 + 2 + 3 + 4 + 5)
