"""The Python that runs a job: the worker's own, or a cached virtual environment for a model's own requirements."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: lines that change how pip installs, without asking for anything
OPTION_ALONE = re.compile(
    r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--pre|--prefer-binary|--trusted-host|--no-binary"
    r"|--only-binary|--require-hashes|--use-feature)(\s|=|$)"
)


class EnvironmentFailed(Exception):
    """The packages of requirements.txt could not be installed."""

    def __init__(self, text: str, *, retryable: bool) -> None:
        """Keep whether the network, rather than the file, may be to blame."""
        super().__init__(text)
        self.retryable = retryable


def requirement_lines(file: Path, *, within: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield a requirements file's lines as pip reads them (its "Requirements File Format"), without comments.

    Continued lines are joined, and the lines of a file that ``-r`` names stand in place of that line.
    """
    text = re.sub(r"\\\n", "", file.read_text(encoding="utf-8-sig", errors="replace"))
    for line in text.splitlines():
        plain = re.sub(r"(^|\s+)#.*$", "", line).strip()
        included = re.fullmatch(r"(?:-r|--requirement)[\s=]*(.+)", plain)
        nested = file.parent / included[1] if included else None
        # Files that include one another are left for pip to refuse.
        if nested and nested.is_file() and nested.resolve() not in (file.resolve(), *within):
            yield from requirement_lines(nested, within=(*within, file.resolve()))
        elif plain:
            yield plain


def unsatisfied(requirements: Path) -> list[str]:
    """Return the lines of a requirements file that the running environment does not satisfy.

    Lines that only say where packages come from ask for nothing by themselves.
    """
    lines = requirement_lines(requirements)
    return [line for line in lines if not OPTION_ALONE.match(line) and not _satisfied(line.split(" --")[0].strip())]


def _satisfied(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if requirement.url or not requirement.specifier.contains(found, prereleases=True):
        return False
    return all(_satisfied(needed) for extra in requirement.extras for needed in _of_extra(requirement.name, extra))


def _of_extra(name: str, extra: str) -> Iterator[str]:
    """Yield what an installed distribution asks for because of one of its extras."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(name) or ():
        needed = Requirement(text)
        marker, needed.marker = needed.marker, None
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            yield str(needed)


def python_for(*, requirements: Path | None, venvs: Path, log: Any) -> str:
    """Return the Python to run the job with, making the virtual environment first when one is needed.

    It is keyed by the requirements, the local files that they name and the Python version, and lies on top of the
    running environment: only what is missing or differs is installed.

    :raises EnvironmentFailed: pip could not install the file
    """
    if requirements is None or not (missing := unsatisfied(requirements)):
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    parent = sysconfig.get_paths()["purelib"]
    folder = venvs / _key(requirements, version, parent)
    venvs.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            named = ", ".join(re.sub(r"//[^/@\s]+@", "//****@", line) for line in missing)
            _say(log, f"making a virtual environment for {named} in {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, requirements, parent, version, log)
    return str(folder / "bin" / "python")


def _key(requirements: Path, version: str, parent: str) -> str:
    digest = hashlib.sha256(f"{version}\0{parent}\0".encode())
    for line in requirement_lines(requirements):
        digest.update(line.encode() + b"\n")
        # A wheel of the code package, or a file of constraints.
        local = requirements.parent / re.sub(r"^(-c|--constraint|-e|--editable)[\s=]*", "", line)
        with contextlib.suppress(OSError):
            digest.update(local.read_bytes())
    return digest.hexdigest()[:24]


def _make(folder: Path, requirements: Path, parent: str, version: str, log: Any) -> None:
    pip = [str(folder / "bin" / "python"), "-P", "-m", "pip", "--disable-pip-version-check"]
    # The running environment's pip, when there is one, serves the new one too: installing another takes seconds.
    without = [] if importlib.util.find_spec("pip") is None else ["--without-pip"]
    steps = (
        [sys.executable, "-P", "-m", "venv", *without, str(folder)],
        [*pip, "install", "--no-input", "-r", str(requirements)],
    )
    for number, step in enumerate(steps):
        done = subprocess.run(
            step,
            # Paths in a requirements file are relative to where pip runs.
            cwd=requirements.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        _say(log, done.stdout)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
            told = errors[-1].removeprefix("ERROR: ") if errors else f"exit status {done.returncode}"
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
