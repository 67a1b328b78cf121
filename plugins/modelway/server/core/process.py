"""Limits of the server's own process."""

import contextlib
import os
import resource
import sys
from pathlib import Path

#: seconds after which a thread that runs Python code lets another one run; the default is 5 ms
_SWITCH = 0.0005


def limit_process() -> None:
    """Let the process open as many connections as allowed, and use no more memory than there is.

    A request can need any amount (an output whose shape comes from a value). Without a limit the kernel grants it,
    and kills the process when it is used; with one the request fails.
    """
    sys.setswitchinterval(_SWITCH)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limit_memory(_memory())


def limit_memory(size: int) -> None:
    """Limit the process to ``size`` bytes of memory more than it has now; only on Linux."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(ValueError, OSError):
        # the sixth number is the pages of its data and stacks, reserved ones included
        now = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (now + size, most))


def _memory() -> int:
    """Return the bytes of memory of the machine, or of the container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        # cgroup v2; "max" where there is no limit
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory
