"""A plugin that adds what each test took to one file: wall seconds, and CPU seconds with those of ended children.

tests/conftest.py loads it; it writes where ``MODELWAY_DURATIONS`` says so, as ``make test`` does. What a fixture of a
module or of the session takes counts for its first test, and for the last one where it is removed.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: the file, with a JSON object per line: step, test, wall, cpu
FILE = "MODELWAY_DURATIONS"
#: the step of `make test` that runs the tests
STEP = "MODELWAY_STEP"


def cpu_seconds() -> float:
    """Return what this process and its children that it has waited for have used."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    path = os.environ.get(FILE)
    wall, cpu = time.monotonic(), cpu_seconds()
    result = yield
    if path:
        used = {"wall": round(time.monotonic() - wall, 2), "cpu": round(cpu_seconds() - cpu, 2)}
        line = json.dumps({"step": os.environ.get(STEP, ""), "test": item.nodeid, **used})
        # One write of a line that is added: several processes write to the file.
        with Path(path).open("a") as file:
            file.write(line + "\n")
    return result
