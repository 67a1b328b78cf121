"""bench/lineage: its contestants agree on what they were asked, and it compares what it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "lineage"


@pytest.mark.database
def test_a_small_run_compares_with_the_floor_and_with_a_larger_database():
    words = ["--versions", "20", "--many", "40", "--registers", "2", "--rounds", "2", "--samples", "8", "--steps", "5"]
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "--without-mlflow", *words], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["register"]["register"]["p50_ms"]) == {"modelway", "floor"}
    assert set(found["read"]) == {"latest", "by_alias", "full_record", "compare", "who_has", "models"}
    assert set(found["growth"]) == {*found["read"], "register"}
    assert all(row["ratio"] > 0 for row in found["growth"].values())
