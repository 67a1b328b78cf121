"""The Python that runs a job: the worker's own, or a cached virtual environment for a model's own requirements."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any


class EnvironmentFailed(Exception):
    """The packages of requirements.txt could not be installed."""

    def __init__(self, text: str, *, retryable: bool) -> None:
        """Keep whether the network, rather than the file, may be to blame."""
        super().__init__(text)
        self.retryable = retryable


def unsatisfied(requirements: Path) -> list[str]:
    """Return the lines of a requirements file that the running environment does not satisfy."""
    from packaging.requirements import InvalidRequirement, Requirement

    missing = []
    for line in requirements.read_text().splitlines():
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate():
                continue
            found = importlib.metadata.version(requirement.name)
        except (InvalidRequirement, importlib.metadata.PackageNotFoundError):
            missing.append(text)
            continue
        if requirement.url or not requirement.specifier.contains(found, prereleases=True):
            missing.append(text)
    return missing


def python_for(*, requirements: Path | None, venvs: Path, log: Any) -> str:
    """Return the Python to run the job with, making the virtual environment first when one is needed.

    It is keyed by the file's digest and the Python version, and lies on top of the running environment: only what is
    missing or differs is installed.

    :raises EnvironmentFailed: pip could not install the file
    """
    if requirements is None or not (missing := unsatisfied(requirements)):
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    parent = sysconfig.get_paths()["purelib"]
    key = hashlib.sha256(f"{version}\0{parent}\0".encode() + requirements.read_bytes()).hexdigest()[:24]
    folder = venvs / key
    venvs.mkdir(parents=True, exist_ok=True)
    with (venvs / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _say(log, f"making a virtual environment for {', '.join(missing)} in {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, requirements, parent, version, log)
    return str(folder / "bin" / "python")


def _make(folder: Path, requirements: Path, parent: str, version: str, log: Any) -> None:
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "-r", str(requirements)],
    )
    for number, step in enumerate(steps):
        done = subprocess.run(
            step, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        _say(log, done.stdout)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
            told = errors[-1] if errors else f"exit status {done.returncode}"
            raise EnvironmentFailed(
                f"requirements.txt could not be installed: {told}", retryable="connection" in done.stdout.lower()
            )
        if number == 0:
            # The running environment's packages are seen behind the new one's own.
            site = folder / "lib" / f"python{version}" / "site-packages"
            (site / "zz_running_environment.pth").write_text(parent + "\n")
    (folder / "complete").touch()


def _say(log: Any, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(log.fileno(), text.encode() + (b"" if text.endswith("\n") else b"\n"))
