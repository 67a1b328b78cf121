"""bench/jobs, with few jobs and for a short time: many are followed by watches, and none costs a request of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubernetes_cluster import require_cluster

BENCH = Path(__file__).parents[2] / "bench" / "jobs" / "run.py"
pytestmark = [pytest.mark.cluster, pytest.mark.alone_on_node]


def test_followed_jobs_cost_no_requests_of_their_own():
    require_cluster()
    words = [sys.executable, str(BENCH), "--jobs", "5", "--seconds", "6", "--settle", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["fired"] == {"succeeded": 5}
    # A look and a watch for jobs and for pods, and once more where a watch began anew, however many jobs there are.
    assert 0 < told["requests"] + sum(told["requests_at_start"].values()) <= 8
    assert told["log_lines"] >= 5
