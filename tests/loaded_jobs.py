"""Jobs as processes that find torch loaded already: a process that has loaded it forks one for each job.

To load torch takes seconds of CPU, which is most of a small job's. Each job is still a process of its own, with its own
process group, that runs the job's program from its beginning and can be killed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugins"
#: answers `start FOLDER` with the number of the job's process, `wait NUMBER` with its exit status
_FORKS = """
import os, sys
from pathlib import Path
import torch
from modelway.job.__main__ import main

answers = os.fdopen(os.dup(1), "w", buffering=1)
for line in sys.stdin:
    word, given = line.rstrip("\\n").split(" ", 1)
    if word == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(int(given), 0)[1]), file=answers)
        continue
    child = os.fork()
    if child:
        print(child, file=answers)
        continue
    os.setsid()
    os.chdir(given)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os._exit(main(Path(given)))
"""


class LoadedJobs:
    """Starts jobs and waits for them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, folder: Path) -> int:
        """Run the job of a folder in a process group of its own and return its number."""
        return self._ask(f"start {folder}")

    def wait(self, pid: int) -> int:
        """Return how the job's process ended, as ``subprocess`` does."""
        return self._ask(f"wait {pid}")


@contextmanager
def loaded_jobs() -> Iterator[LoadedJobs]:
    """Load torch on one thread, for as many jobs as are started."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield LoadedJobs(process)
        assert process.stdin is not None
        process.stdin.close()
