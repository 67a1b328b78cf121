"""What a job runs in: the interpreter, the machine, the packages, the image.

Packages are read from the names of their ``.dist-info`` and ``.egg-info`` folders, which hold name and version (PyPA,
"Recording installed projects"): importlib.metadata reads a file of each, which takes a second for a few hundred.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*|[^-]+)(-py\d[\d.]*)?\.(dist|egg)-info")


def environment() -> dict[str, Any]:
    """Return ``{digest, python, platform, packages, image}``; two with the same digest are the same."""
    return _digested(
        {
            "python": platform.python_version(),
            "platform": _machine(),
            "packages": installed_packages(sys.path),
            "image": os.environ.get("MODELWAY_IMAGE") or None,
        }
    )


def with_image(found: Mapping[str, Any], digest: str | None) -> dict[str, Any]:
    """Return an environment whose image has its digest too, ``reference@sha256:…``: a tag may move.

    :param digest: of the image, as known to what started the container; None: unknown
    """
    own = {name: found[name] for name in ("python", "platform", "packages", "image")}
    if digest and own["image"] and "@" not in own["image"]:
        own["image"] = f"{own['image']}@{digest}"
    return _digested(own)


def _digested(found: dict[str, Any]) -> dict[str, Any]:
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
