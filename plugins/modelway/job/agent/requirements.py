"""What a model's requirements.txt asks for beyond the image: installed into a virtual environment for this container.

The environment sees the image's packages behind its own, so that only what is missing is fetched.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RequirementsFailed(Exception):
    """The packages of requirements.txt could not be installed."""


def python_for(*, requirements: Path, scratch: Path, say: Callable[[str], None]) -> str:
    """Return the Python to run the job with: this one, or that of an environment made for the requirements.

    :raises RequirementsFailed: pip refused
    """
    if not requirements.is_file() or all(map(_satisfied, _lines(requirements))):
        return sys.executable
    say(f"installing what requirements.txt asks for beyond this image into {scratch}")
    folder = scratch / "venv"
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], requirements.parent, say)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # The image's own packages, also where the image's Python is itself a virtual environment's.
    # A distribution's pip lies in a folder of its own.
    own = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    packages = folder / "lib" / f"python{version}" / "site-packages"
    (packages / "zz_image.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in own))
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    _run([*pip, "-r", str(requirements)], requirements.parent, say)
    return python


def _run(command: list[str], folder: Path, say: Callable[[str], None]) -> None:
    process = subprocess.Popen(
        command,
        # Paths in a requirements file are relative to where pip runs.
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert process.stdout is not None
    errors = []
    for line in process.stdout:
        say(line.rstrip("\n"))
        errors += [line.strip()] if line.startswith("ERROR") else []
    if process.wait():
        told = errors[-1][len("ERROR: ") :] if errors else f"{command[2]} ended with exit status {process.returncode}"
        raise RequirementsFailed(f"requirements.txt could not be installed: {told}")


def _lines(file: Path) -> list[str]:
    text = re.sub(r"\\\n", "", file.read_text(encoding="utf-8-sig", errors="replace"))
    lines = [re.sub(r"(^|\s+)#.*$", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def _satisfied(line: str) -> bool:
    """Whether this Python has what a line asks for; a line that only pip understands is left to pip."""
    requirement = _parsed(line)
    if requirement is None or requirement.url or requirement.extras:
        return False
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return bool(requirement.specifier.contains(found, prereleases=True))


def _parsed(line: str) -> Any:
    """Return the line as a requirement by whichever copy of ``packaging`` the image has, or None."""
    for place in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            module = importlib.import_module(place)
        except ImportError:
            continue
        try:
            return module.Requirement(line)
        except module.InvalidRequirement:
            return None
    return None
