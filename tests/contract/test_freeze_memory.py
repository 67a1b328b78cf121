"""Freezing needs little more memory than the weights themselves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.job_folders import write_job

# Slow beside other tests.
pytestmark = pytest.mark.timeout(600)

PLUGINS = Path(__file__).parents[2] / "plugins"
#: 160 MB of weights: linear layers, whose bytes the program shares, and an LSTM, whose gates ONNX has in another order
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(*(nn.Linear(width, width) for _ in range(8)))
        self.lstm = nn.LSTM(width, width // 4, batch_first=True)

    def forward(self, x):
        return self.lstm(self.body(x))[0]

def export(job, checkpoint):
    width = job.params["width"]
    return Net(width), torch.zeros(2, 3, width)
"""
#: freezes a small model, so that every library is loaded, then the large one; prints peak and base in bytes
MEASURE = """
import sys, threading, time
from pathlib import Path
from modelway.job.__main__ import main

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

small, large = map(Path, sys.argv[1:])
main(small)
base, peak, over = resident(), 0, False
def watch():
    global peak
    while not over:
        peak = max(peak, resident())
        time.sleep(0.002)
watching = threading.Thread(target=watch)
watching.start()
sys.modules.pop("tiny", None)
sys.path[:] = [place for place in sys.path if not place.endswith("/code")]
status = main(large)
over = True
watching.join()
print("MEASURED", status, base, peak)
"""


def test_freezing_needs_at_most_two_and_a_half_bytes_for_each_byte_of_weights(tmp_path):
    folders = [
        write_job(tmp_path / name, code=CODE, action="freeze", stage="freeze", params={"width": width}, seed=1)
        for name, width in (("small", 8), ("large", 2048))
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, *map(str, folders)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("MEASURED")), "")
    assert line, done.stderr
    status, base, peak = map(int, line.split()[1:])
    assert status == 0, done.stderr
    described = json.loads((folders[1] / "output" / "archive" / "outputs" / "model.yml").read_text())
    weights = 4 * described["parameters"]
    assert weights > 100_000_000
    print(f"{(peak - base) / weights:.2f} bytes for each byte of weights")
    assert peak - base < 2.5 * weights
