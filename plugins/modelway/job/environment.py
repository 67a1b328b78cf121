"""What a job runs in, and what it takes: the interpreter, the machine, the packages; processor and wall-clock time.

Packages are read off the names of their ``.dist-info`` and ``.egg-info`` folders, which hold name and version (PyPA,
"Recording installed projects"): importlib.metadata reads a file of each, which takes a second for some hundred.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import resource
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: names this process among all that worked on a job
_PROCESS = uuid.uuid4().hex[:12]
_BEGUN = time.monotonic()
_INFO = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*|[^-]+)(-py\d[\d.]*)?\.(dist|egg)-info")


def environment() -> dict[str, Any]:
    """Return ``{digest, python, platform, packages, image}``; two with the same digest are the same."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": _machine(),
        "packages": installed_packages(sys.path),
        "image": os.environ.get("MODELWAY_IMAGE") or None,
    }
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return {"digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(), **found}


def installed_packages(folders: Iterable[str]) -> dict[str, str]:
    """Return the version of each package in the folders by its normalised name; the first folder counts."""
    found: dict[str, str] = {}
    for folder in folders:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and (parts := _INFO.fullmatch(name)):
                found.setdefault(re.sub(r"[-_.]+", "-", parts["name"]).lower(), parts["version"])
    return dict(sorted(found.items()))


def _machine() -> str:
    """Return system, machine, C library and the models of processor and GPUs, in one line."""
    parts = [f"{platform.system()} {platform.machine()}", "".join(platform.libc_ver()), _processor(), *_gpus()]
    return ", ".join(filter(None, parts))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return re.sub(r"\s+", " ", found[1]).strip() if found else ""


def _gpus() -> list[str]:
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            model = re.search(r"^Model:\s*(.+)$", path.read_text(errors="replace"), flags=re.MULTILINE)
        except OSError:
            continue
        found += [model[1].strip()] if model else []
    return found


def usage() -> dict[str, Any]:
    """Return what this process and its ended children have taken so far: the fields of a ``usage`` event."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in spent)
    is_main = os.environ.get("RANK", "0") == "0"
    # The processes of a job run at the same time: the time of one is that of all.
    seconds = {"seconds": round(time.monotonic() - _BEGUN, 3)} if is_main else {}
    return {"process": _PROCESS, "cpu_seconds": round(cpu, 3), **seconds}


def usage_in(events: Iterable[Mapping[str, Any]]) -> tuple[float | None, float]:
    """Return the processor seconds of all processes that a job's events tell of, and the seconds of its earlier tries.

    Of a process that was killed counts what it told last, with its last checkpoint. None: nothing was told.
    """
    last: dict[str, tuple[float, float]] = {}
    for event in events:
        told = event if event["kind"] == "usage" else event.get("usage")
        if isinstance(told, Mapping) and isinstance(told.get("cpu_seconds"), (int, float)):
            last[str(told.get("process"))] = (float(told["cpu_seconds"]), float(told.get("seconds") or 0))
    if not last:
        return None, 0.0
    times = [seconds for _, seconds in last.values() if seconds]
    return round(sum(cpu for cpu, _ in last.values()), 3), round(sum(times[:-1]), 3)
