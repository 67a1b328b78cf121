"""The resources of this machine."""

import os
from pathlib import Path


def gpu_count() -> int:
    """Return how many NVIDIA GPUs of this machine a process can open."""
    return sum(1 for device in Path("/dev").glob("nvidia*") if device.name.removeprefix("nvidia").isdigit())


def core_count() -> int:
    """Return how many CPU cores this process, and so a job that it starts, may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
