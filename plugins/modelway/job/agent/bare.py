"""What a container provides by itself, for an agent without one: a single start, an identity, and cores of its own."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

AGENT = "modelway.job.agent"
#: the file in an attempt's folder that says that it was cancelled
CANCELLED = "cancelled"


def begin(attempt: Path, *, cpu: float | None, lock: Path) -> bool:
    """Claim an attempt for this process and make its inputs read-only; False when it was given up before.

    :param cpu: how many cores to bind the process to
    :param lock: a file with which the agents of this machine choose cores one after another
    """
    if not claim(attempt, "agent"):
        return False
    record_self(attempt)
    protect(attempt.parent / "inputs")
    bind_to_cores(cpu, str(attempt), lock=lock)
    for left in attempt.parent.glob("try-*/pods"):
        # Heartbeats of attempts that are known to be over: nothing waits for them.
        shutil.rmtree(left, ignore_errors=True)
    return True


def protect(folder: Path) -> None:
    """Make the files of a folder read-only for this process and all that it starts; they may be stored files.

    A file's mode says so, but to root that means nothing: for root the folder is mounted read-only, or where that is
    not allowed, as in most containers, its files are replaced by copies.
    """
    if os.geteuid() != 0 or not folder.is_dir() or _mount_read_only(folder):
        return
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
            beside = path.with_name(f".{path.name}.part")
            shutil.copyfile(path, beside)
            beside.replace(path)


def _mount_read_only(folder: Path) -> bool:
    """Mount a folder read-only in a mount namespace of this process; return whether that was possible (Linux)."""
    new_namespace, read_only, remount, bind, recursive, slave = 0x20000, 1, 32, 4096, 16384, 1 << 19
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        place = os.fsencode(folder)
        return bool(
            libc.unshare(new_namespace) == 0
            # What is mounted here is to be seen here alone.
            and libc.mount(None, b"/", None, ctypes.c_ulong(recursive | slave), None) == 0
            and libc.mount(place, place, None, ctypes.c_ulong(bind), None) == 0
            and libc.mount(None, place, None, ctypes.c_ulong(bind | remount | read_only), None) == 0
        )
    except (OSError, AttributeError):
        return False


def claim(attempt: Path, word: str) -> bool:
    """Write ``word`` into the attempt's claim file unless it is claimed already; return whether this call wrote it."""
    try:
        descriptor = os.open(attempt / "claim", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(word)
    return True


def record_self(attempt: Path) -> None:
    """Record which process runs the attempt: pid and start time, since pids are reused, and where they are valid."""
    beside = attempt / ".process.json.part"
    beside.write_text(json.dumps({"pid": os.getpid(), "created": _created(), **place()}))
    beside.replace(attempt / "process.json")


def place() -> dict[str, str]:
    """Return where a pid of this process is valid: this boot of the machine, and in a container its processes."""
    try:
        return {"boot": boot(), "processes": os.readlink("/proc/self/ns/pid")}
    except OSError:
        return {"boot": boot()}


def boot() -> str:
    """Return an identifier of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        # It changes whenever the clock is set: used only where there is nothing else.
        return f"{psutil.boot_time():.0f}"


def _created() -> float:
    """Return when this process started, in seconds since the epoch as psutil computes them."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except OSError:
        import psutil

        return float(psutil.Process().create_time())


def bind_to_cores(cpu: float | None, name: str, *, lock: Path) -> None:
    """Bind this process, and so the job, to as many cores as requested: those to which the fewest others are bound."""
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if cpu >= len(cores):
        return
    # Among equals the name decides, so that machines are used evenly.
    order = random.Random(int(hashlib.sha256(name.encode()).hexdigest(), 16)).sample(cores, len(cores))
    with lock.open("w") as file:
        # One after another: two that read at the same time would choose the same.
        fcntl.flock(file, fcntl.LOCK_EX)
        used = _bindings(cores)
        os.sched_setaffinity(0, sorted(order, key=lambda core: used[core])[: max(1, round(cpu))])


def _bindings(cores: list[int]) -> Counter[int]:
    """Return how many other jobs are bound to each core."""
    used: Counter[int] = Counter()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if AGENT.encode() not in (entry / "cmdline").read_bytes().split(b"\0"):
                continue
            bound = os.sched_getaffinity(int(entry.name))
            if bound != set(cores):
                used.update(bound)
    return used
