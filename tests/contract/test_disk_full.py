"""A device without space is said in one line: by a job, by the artifact store, by the lineage and by the command."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import Job, JobState, Options, load_backend
from modelway.errors import DiskFull, disk_full
from modelway.operators.base import translate_errors

from tests.job_folders import ended, store_code
from tests.small_device import small_device

SAID = "no space left on the device"


@pytest.fixture
def device(tmp_path):
    """A device of 2 MB."""
    with small_device(tmp_path, size="2m") as place:
        yield place


def fill(place: Path) -> None:
    """Leave no byte."""
    with (place / "others").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


FILLS = {
    "a checkpoint": "    with job.checkpoint(step=1) as path: path.write_bytes(bytes(4_000_000))\n",
    "a file of its own": "    (job.folder / 'mine').write_bytes(bytes(4_000_000))\n",
    "a library that hides why": "    try: (job.folder / 'mine').write_bytes(bytes(4_000_000))\n"
    "    except OSError: raise RuntimeError('write failed') from None\n",
    "its log": "    for number in range(10**6): print(number, 'x' * 1000)\n",
}


@pytest.mark.parametrize("what", FILLS)
def test_a_job_that_fills_the_device_says_so(device, tmp_path, what):
    backend = load_backend("local", home=device)
    code = store_code(tmp_path, f"def train(job):\n{FILLS[what]}")
    asked = {"model": "tiny", "key": "train", "stage": "train", "action": "train", "module": "tiny.py", "code": code}
    handle = backend.submit(backend.build_request(Job(run="tiny/now", **asked), Options()))
    status = ended(backend, handle, seconds=60)
    assert status.state is JobState.FAILED
    assert SAID in status.reason
    assert "MODELWAY_HOME" in status.reason
    assert "tiny.py:" in status.reason


def test_the_store_says_so_through_its_task(device, tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(4_000_000))
    pushed = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    operator = SimpleNamespace(log=SimpleNamespace(error=lambda *words: None, warning=lambda *words: None))
    with pytest.raises(AirflowFailException, match=SAID), translate_errors(operator, {"ti": ti}):
        ArtifactStore(device.as_uri()).put(tmp_path / "large", model="tiny")
    assert pushed["failure"].startswith(f"{device.as_uri()}: {SAID}. Free some")


def test_the_command_says_so_in_one_line(device):
    fill(device)
    environment = {**os.environ, "MODELWAY_HOME": str(device / "home")}
    command = [Path(sys.executable).parent / "modelway", "run", "digits"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert SAID in done.stderr
    assert str(device) in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_another_error_is_no_full_device():
    assert disk_full(OSError(13, "Permission denied")) is None
    assert isinstance(disk_full(RuntimeError("database or disk is full")), DiskFull)
