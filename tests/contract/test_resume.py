"""Training that is killed again and again ends with the very weights of training that is left alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import wait_for, write_job
from tests.loaded_jobs import loaded_jobs

PLUGINS = Path(__file__).parents[2] / "plugins"
STEPS = 64
KILLS = 20
TRAINING = """
import time
import torch
from torch import nn

def train(job):
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Linear(16, 512), nn.Dropout(0.2), nn.Tanh(), nn.Linear(512, 64), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    begun = 0
    if resumed := job.resume_from():
        state = torch.load(resumed.path, weights_only=True)
        net.load_state_dict(state['net'])
        if not job.params.get('forgets'):
            optimizer.load_state_dict(state['optimizer'])
        begun = state['step']
    for step in range(begun + 1, job.params['steps'] + 1):
        torch.manual_seed(job.seed * 1000 + step)
        images = torch.randn(32, 16)
        loss = (net(images) - images.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.log(step=step, loss=loss.item())
        with job.checkpoint(step=step) as path:
            torch.save({'net': net.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step}, path)
        # Long enough that a kill meets training now and the writing of a checkpoint then.
        time.sleep(0.01)
"""


def begin(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "modelway.job", folder],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def loaded():
    with loaded_jobs() as found:
        yield found


def finished(folder, loaded):
    assert loaded.wait(loaded.start(folder)) == 0
    return final_state(folder)


def final_state(folder):
    import torch

    last = recorded_checkpoints(folder)[-1]
    assert last.step == STEPS
    state = torch.load(last.path, weights_only=True)
    moments = [each for values in state["optimizer"]["state"].values() for each in values.values()]
    return [*state["net"].values(), *moments]


def same(one, other):
    import torch

    return len(one) == len(other) and all(map(torch.equal, one, other))


def kill_while_it_loads(folder, chance):
    """Begin the job as it begins everywhere and kill it before it trains, or soon after."""
    process = begin(folder)
    early = time.monotonic() + chance.uniform(0, 1.5)
    before = len(recorded_checkpoints(folder))
    wait_for(lambda: len(recorded_checkpoints(folder)) > before or time.monotonic() > early)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL, "it was to be killed before it was done"


def kill_while_it_trains(folder, chance, loaded, *, further):
    """Begin the job where torch is loaded and kill it after so many checkpoints: while it trains or while it writes."""
    before = len(recorded_checkpoints(folder))
    pid = loaded.start(folder)
    wait_for(lambda: len(recorded_checkpoints(folder)) >= before + further)
    time.sleep(chance.uniform(0, 0.02))
    os.killpg(pid, signal.SIGKILL)
    assert loaded.wait(pid) == -signal.SIGKILL, "it was to be killed before it was done"


def kill_somewhere(folder, chance, loaded):
    """Run the job, kill it, and return how many checkpoints it gained."""
    before = len(recorded_checkpoints(folder))
    further = chance.choice([0, 0, 1, 2])
    if further:
        kill_while_it_trains(folder, chance, loaded, further=further)
    else:
        kill_while_it_loads(folder, chance)
    return len(recorded_checkpoints(folder)) - before


@pytest.fixture(scope="module")
def undisturbed_folder(tmp_path_factory, loaded):
    folder = write_job(tmp_path_factory.mktemp("undisturbed"), code=TRAINING, params={"steps": STEPS}, seed=3)
    finished(folder, loaded)
    return folder


@pytest.fixture(scope="module")
def undisturbed(undisturbed_folder):
    return final_state(undisturbed_folder)


def test_training_that_is_killed_twenty_times_ends_with_the_same_weights(tmp_path, undisturbed, loaded):
    seed = int(os.environ.get("MODELWAY_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"MODELWAY_TEST_SEED={seed}")
    chance = random.Random(seed)
    folder = write_job(tmp_path, code=TRAINING, params={"steps": STEPS}, seed=3)
    # More than so many checkpoints between two kills would let it end too early.
    gained = [kill_somewhere(folder, chance, loaded) for _ in range(KILLS)]
    print(f"checkpoints between kills: {gained}")
    assert sum(gained) > 0
    assert same(finished(folder, loaded), undisturbed)


def test_training_that_forgets_what_its_optimizer_knew_would_be_noticed(tmp_path, undisturbed, loaded):
    folder = write_job(tmp_path, code=TRAINING, params={"steps": STEPS, "forgets": True}, seed=3)
    kill_while_it_trains(folder, random.Random(1), loaded, further=3)
    assert len(recorded_checkpoints(folder)) >= 3
    assert not same(finished(folder, loaded), undisturbed)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "zeroed", "missing"],
)
def test_training_continues_from_the_checkpoint_before_a_damaged_one(
    tmp_path, undisturbed_folder, undisturbed, loaded, harm
):
    folder = tmp_path / "damaged"
    shutil.copytree(undisturbed_folder, folder, symlinks=True)
    # Two damaged ones, and an event line that was cut off.
    for damaged in recorded_checkpoints(folder)[-2:]:
        assert damaged.path.is_relative_to(folder)
        harm(damaged.path)
    events = folder / "events.jsonl"
    os.truncate(events, events.stat().st_size - 20)
    assert same(finished(folder, loaded), undisturbed)
