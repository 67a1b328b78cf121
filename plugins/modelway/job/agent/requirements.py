"""What a model's requirements.txt requires and this Python lacks, installed into a virtual environment.

The environment sees the packages of this Python behind its own, so that only what is missing is fetched. In a container
it ends with the container; where ``venvs`` names a folder it is stored there, under a key of what it is made of.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: lines that change how pip installs, without requiring anything
_OPTION_ALONE = re.compile(
    r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--pre|--prefer-binary|--trusted-host|--no-binary"
    r"|--only-binary|--require-hashes|--use-feature)(\s|=|$)"
)


class RequirementsFailed(Exception):
    """The packages of requirements.txt could not be installed."""

    def __init__(self, text: str, *, offline: bool) -> None:
        """Record whether the network, rather than the file, may be to blame."""
        super().__init__(text)
        self.offline = offline


def python_for(*, requirements: Path, scratch: Path, say: Callable[[str], None], venvs: Path | None = None) -> str:
    """Return the Python to run the job with: this one, or that of an environment made for the requirements.

    :param scratch: where the environment is made
    :param venvs: where it is made instead, to be reused by jobs with the same requirements
    :raises RequirementsFailed: pip could not install the file
    """
    if not requirements.is_file() or not (missing := unsatisfied(requirements)):
        return sys.executable
    named = ", ".join(re.sub(r"//[^/@\s]+@", "//****@", line) for line in missing)
    if venvs is None:
        say(f"installing requirements that this image lacks: {named}")
        # The cache would end with the container too.
        return _make(scratch / "venv", requirements, say, ("--no-cache-dir",))
    folder = venvs / environment_key(requirements)
    venvs.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            say(f"making a virtual environment for {named} in {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _make(folder, requirements, say, ())
            except RequirementsFailed:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / "complete").touch()
    return str(folder / "bin" / "python")


def environment_key(requirements: Path) -> str:
    """Return the key of an environment: a digest of the lines, the local files that they name, and the Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{version}\0{sysconfig.get_path('purelib')}\0".encode())
    for line in requirement_lines(requirements):
        digest.update(line.encode() + b"\n")
        # A wheel of the code package, or a file of constraints.
        local = requirements.parent / re.sub(r"^(-c|--constraint|-e|--editable)[\s=]*", "", line)
        with contextlib.suppress(OSError):
            digest.update(local.read_bytes())
    return digest.hexdigest()[:24]


def requirement_lines(file: Path, *, within: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield a requirements file's lines as pip reads them (its "Requirements File Format"), without comments.

    Continued lines are joined, and the lines of a file that ``-r`` names replace that line.
    """
    text = re.sub(r"\\\n", "", file.read_text(encoding="utf-8-sig", errors="replace"))
    for line in text.splitlines():
        plain = re.sub(r"(^|\s+)#.*$", "", line).strip()
        included = re.fullmatch(r"(?:-r|--requirement)[\s=]*(.+)", plain)
        nested = file.parent / included[1] if included else None
        # Files that include one another are left for pip to reject.
        if nested and nested.is_file() and nested.resolve() not in (file.resolve(), *within):
            yield from requirement_lines(nested, within=(*within, file.resolve()))
        elif plain:
            yield plain


def unsatisfied(requirements: Path) -> list[str]:
    """Return the lines of a requirements file that the running environment does not satisfy.

    Lines that only say where packages come from require nothing by themselves; one that only pip understands is left
    to pip.
    """
    lines = requirement_lines(requirements)
    return [line for line in lines if not _OPTION_ALONE.match(line) and not _satisfied(line.split(" --")[0].strip())]


def _satisfied(text: str) -> bool:
    requirement = _parsed(text)
    if requirement is None:
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
    """Yield what one of the extras of an installed distribution requires."""
    for text in importlib.metadata.requires(name) or ():
        needed = _parsed(text)
        if needed is None:
            continue
        marker, needed.marker = needed.marker, None
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            yield str(needed)


def _parsed(line: str) -> Any:
    """Return the line as a requirement parsed by whichever copy of ``packaging`` there is, or None."""
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


def _make(folder: Path, requirements: Path, say: Callable[[str], None], options: tuple[str, ...]) -> str:
    """Make an environment with the requirements; return its Python."""
    # The pip that is there, if there is one, serves the new one too: installing another takes seconds.
    without = [] if importlib.util.find_spec("pip") is None else ["--without-pip"]
    _run([sys.executable, "-m", "venv", *without, str(folder)], requirements.parent, say)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # The packages that are there, also where this Python is itself a virtual environment's.
    # The pip of a Linux distribution is in a folder of its own.
    own = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    packages = folder / "lib" / f"python{version}" / "site-packages"
    (packages / "zz_running_environment.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in own))
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *options]
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
        env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "PYTHONSAFEPATH": "1"},
    )
    assert process.stdout is not None
    errors, offline = [], False
    for line in process.stdout:
        say(line.rstrip("\n"))
        errors += [line.strip()] if line.startswith("ERROR") else []
        offline = offline or "connection" in line.lower()
    if process.wait():
        reason = errors[-1][len("ERROR: ") :] if errors else f"{command[2]} ended with exit status {process.returncode}"
        raise RequirementsFailed(f"requirements.txt could not be installed: {reason}", offline=offline)
