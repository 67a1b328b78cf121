"""``python -m modelway.backends.local.supervise TRY``: run one try of a local job and write down how it ended.

It leads the job's session, outlives the Airflow worker that started it, keeps the job within its memory and time,
and lives through the SIGTERM that a cancel sends to all of the job, so that it can still write ``exit.json``.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from modelway.backends.local import environment, processes
from modelway.failures import FailureKind, RetryRule
from modelway.job.agent import launch, memory, process_tree
from modelway.job.agent.exit_report import LARGEST_ERROR, LONGEST_REASON
from modelway.job.agent.usage import Account
from modelway.job.left_files import document_below

WATCH_SECONDS = 0.25
STOP_SECONDS = 5.0
RESERVE_BYTES = 64 * 1024


def main(attempt: Path) -> int:
    """Run the try in the folder ``attempt``."""
    # A handler, since what is ignored here would be ignored by every process that is started from here.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    if not processes.claim(attempt, "supervisor"):
        return 1
    processes.record_self(attempt)
    processes.adopt_orphans()
    request = json.loads((attempt / "request.json").read_text())
    started = time.monotonic()
    _reserve(attempt)
    with (attempt / "log.txt").open("ab") as log:
        account = Account(attempt=attempt)
        outcome = _told(attempt, request, log, account)
    # One that was done before it could be stopped has succeeded.
    if (attempt / "cancelled").exists() and outcome["state"] != "succeeded":
        outcome = {"state": "cancelled", "reason": "the job was cancelled"}
    _stop_the_rest(attempt)
    (attempt / launch.RESERVE).unlink(missing_ok=True)
    process_tree.reap()
    account.write()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome |= {
        "peak_memory_bytes": peak_bytes(usage.ru_maxrss, platform=sys.platform),
        "seconds": round(time.monotonic() - started, 3),
    }
    _write_exit(attempt, outcome)
    return 0


def _reserve(attempt: Path) -> None:
    """Take space for the words that say how the try ended: it may end since there is none left."""
    with contextlib.suppress(OSError):
        (attempt / launch.RESERVE).write_bytes(os.urandom(RESERVE_BYTES))


def peak_bytes(maxrss: int, *, platform: str) -> int:
    """Return ``ru_maxrss`` of getrusage(2) in bytes: macOS counts bytes, the others KiB."""
    return maxrss if platform == "darwin" else maxrss * 1024


def _told(attempt: Path, request: dict[str, Any], log: Any, account: Account) -> dict[str, Any]:
    """Run the try; whatever goes wrong here is an outcome too, or the job would count as vanished."""
    try:
        return _run(attempt, request, log, account)
    except Exception as error:
        log.write(traceback.format_exc().encode())
        reason = f"the job could not be run: {type(error).__name__}: {error}"
        return failed(FailureKind.INIT, reason)


def _run(attempt: Path, request: dict[str, Any], log: Any, account: Account) -> dict[str, Any]:
    try:
        python = environment.python_for(
            requirements=Path(request["requirements"]) if request["requirements"] else None,
            venvs=Path(request["venvs"]),
            log=log,
        )
    except environment.EnvironmentFailed as error:
        return {**failed(FailureKind.INIT, str(error)), "retryable": error.retryable}
    _limit_cores(request["cpu"], request["name"], lock=Path(request["venvs"]).with_name("jobs") / ".cores.lock")
    # What an earlier try told is not this one's reason.
    (attempt.parent / "error.json").unlink(missing_ok=True)
    killed_before = memory.kills() or 0
    child = subprocess.Popen(
        launch.command(python=python, folder=Path(request["folder"]), processes=request["processes"]),
        cwd=request["folder"],
        env={**request["environment"], "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    limits = {name: request[name] for name in ("memory_bytes", "timeout_seconds")}
    stopped = _watch(child, account, **limits)
    # Where the worker's own container has a limit, the kernel may kill a job long before the job's is reached.
    if not stopped and child.returncode == -signal.SIGKILL and (memory.kills() or 0) > killed_before:
        stopped = failed(FailureKind.OUT_OF_MEMORY, "out of memory: the kernel killed the job's process")
    return _outcome(attempt, child.returncode, stopped)


def _limit_cores(cpu: float | None, name: str, *, lock: Path) -> None:
    """Bind the job to as many cores as it asked for: those that the fewest other jobs are bound to."""
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if cpu >= len(cores):
        return
    # Among equals the name decides, so that machines are used evenly.
    order = random.Random(int(hashlib.sha256(name.encode()).hexdigest(), 16)).sample(cores, len(cores))
    with lock.open("w") as file:
        # One after another: two that look at the same time would choose the same.
        fcntl.flock(file, fcntl.LOCK_EX)
        taken = _bindings(cores)
        os.sched_setaffinity(0, sorted(order, key=lambda core: taken[core])[: max(1, round(cpu))])


def _bindings(cores: list[int]) -> Counter[int]:
    """Return how many other jobs are bound to each core."""
    import psutil

    taken: Counter[int] = Counter()
    for process in psutil.process_iter(["cmdline"]):
        if process.pid == os.getpid() or "modelway.backends.local.supervise" not in (process.info["cmdline"] or ()):
            continue
        with contextlib.suppress(psutil.Error):
            if (bound := process.cpu_affinity()) and set(bound) != set(cores):
                taken.update(bound)
    return taken


def _watch(
    child: "subprocess.Popen[bytes]", account: Account, *, memory_bytes: int | None, timeout_seconds: int | None
) -> dict[str, Any] | None:
    """Wait for the child; kill it when it takes too much memory or time, and return that outcome."""
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    while True:
        try:
            child.wait(timeout=WATCH_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            account.renew()
            reason = _over_limit(child.pid, memory_bytes, deadline, timeout_seconds)
        if reason:
            _kill_tree(child.pid)
            child.wait()
            return reason


def _over_limit(
    pid: int, memory_bytes: int | None, deadline: float | None, timeout_seconds: int | None
) -> dict[str, Any] | None:
    if deadline and time.monotonic() > deadline:
        return failed(FailureKind.DEADLINE, f"stopped after its timeout of {timeout_seconds} seconds")
    if memory_bytes and (used := _memory(pid)) > memory_bytes:
        told = f"out of memory: its processes took {used / 2**20:.0f} MiB, the limit is {memory_bytes / 2**20:.0f} MiB"
        return failed(FailureKind.OUT_OF_MEMORY, told)
    return None


def failed(kind: FailureKind, reason: str) -> dict[str, Any]:
    """Return how a job failed, as ``exit.json`` has it."""
    return {"state": "failed", "reason": reason, "failure": kind.value, "retryable": kind.rule is not RetryRule.FAIL}


def _tree(pid: int) -> list[Any]:
    import psutil

    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(pid: int) -> int:
    import psutil

    used = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += process.memory_info().rss
    return used


def _kill_tree(pid: int) -> None:
    for process in _tree(pid):
        with contextlib.suppress(Exception):
            process.kill()


def _outcome(attempt: Path, returncode: int, stopped: dict[str, Any] | None) -> dict[str, Any]:
    if stopped:
        return stopped
    if returncode == 0:
        return {"state": "succeeded"}
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return failed(FailureKind.KILLED, f"the job's process was killed by {name}")
    reason = (document_below(attempt.parent, "error.json", most=LARGEST_ERROR) or {}).get("reason")
    if not isinstance(reason, str):
        reason = f"the job's process ended with exit status {returncode}"
    return failed(FailureKind.BAD_EXIT, reason[:LONGEST_REASON])


def _stop_the_rest(attempt: Path) -> None:
    """End what the job left running, such as data loader workers."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := [pid for pid in processes.members(attempt) if pid != os.getpid()]) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _write_exit(attempt: Path, outcome: dict[str, Any]) -> None:
    beside = attempt / ".exit.json.part"
    with beside.open("w") as file:
        json.dump(outcome, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(attempt / "exit.json")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
