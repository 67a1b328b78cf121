"""The tests that a change can reach: `make test ARGS=--changed`, for the loop of who develops; CI runs everything."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tests.suite.imports import LIBRARY, Imports, source
from tests.suite.steps import ROOT, STEPS, Step

#: says to tests/conftest.py that a step with no test that fits its marks is no failure
PARTIAL = "MODELWAY_SUITE_PARTIAL"

#: what else reaches tests: the start of a changed path, and the kinds of tests that see such files
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("docs/", ("tests/docs/",)),
    ("README.md", ("tests/docs/",)),
    ("CHANGELOG.md", ("tests/docs/",)),
    ("LICENSE", ("tests/docs/",)),
    ("findings/", ("tests/docs/",)),
    ("dags/", ("tests/dags/", "tests/docs/", "tests/system/")),
    ("include/models/", ("tests/dags/", "tests/docs/", "tests/system/")),
    ("plugins/modelway_plugin.py", ("tests/dags/", "tests/docs/", "tests/system/")),
)
#: a real Airflow loads all of the library there
SYSTEM = "tests/system/"
#: it reads every file of the repository
ALWAYS = ("tests/docs/test_house.py",)


def changed_files() -> list[str]:
    """Return what differs from the branch main, or on main from the commit before; with all that is not committed."""
    base = _git("merge-base", "HEAD", "main") or _git("merge-base", "HEAD", "origin/main")
    if base in ([], _git("rev-parse", "HEAD")):
        base = _git("rev-parse", "HEAD~1") or ["HEAD"]
    # A renamed file counts by both its names.
    differs = _git("diff", "--name-only", "--no-renames", *base, "--")
    return sorted({*differs, *_git("ls-files", "--others", "--exclude-standard")})


def _git(*words: str) -> list[str]:
    """Return the lines that git prints; none where it fails."""
    done = subprocess.run(["git", "-c", "core.quotePath=false", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def selected(changed: Iterable[str], imports: Imports) -> tuple[set[str], str]:
    """Return the files of tests that a change can reach, and the file that makes it all of them, if one does."""
    files = [path for path in imports.tests if path.rpartition("/")[2].startswith("test_")]
    reached = {file: imports.reached(file) for file in files}
    found = {file for file in files if file in ALWAYS}
    for path in changed:
        if path.rpartition("/")[2].startswith("test_") and path not in files:
            # A file of tests that is there no more.
            continue
        touched = _touched(path, imports)
        here = {file for file in files if reached[file] & touched or file.startswith(_kinds(path, imports))}
        if not here and not (touched and touched <= imports.library):
            return set(files), path
        found |= here
    return found, ""


def _touched(path: str, imports: Imports) -> frozenset[str]:
    """Return the Python files that a changed file is, or that read it."""
    if path in imports.tests or path in imports.library:
        return frozenset({path})
    if path.startswith(f"{LIBRARY}/") and not path.endswith(".py"):
        folder = path.rpartition("/")[0]
        return frozenset(file for file in imports.library if file.startswith(f"{folder}/"))
    if path.startswith(("tests/", "bench/")):
        # What lies beside tests is found by the name of its folder, or by its own.
        parts = path.split("/")
        name = parts[0] if parts[0] == "bench" else parts[2 if parts[1] in _kinds_of_tests() else 1]
        named = re.compile(rf"(^|[/ ]){re.escape(name)}([/ ]|$)")
        return frozenset(file for file in imports.tests if any(map(named.search, source(file).words)))
    return frozenset()


def _kinds_of_tests() -> set[str]:
    return {path.split("/")[1] for each in STEPS for path in each.tests}


def _kinds(path: str, imports: Imports) -> tuple[str, ...]:
    """Return the folders whose tests a change reaches whatever they import."""
    if path in ("tests/conftest.py", "tests/run_all.py") or path.startswith("tests/suite/"):
        return ("tests/",)
    if path.endswith("/conftest.py"):
        return (path.removesuffix("conftest.py"),)
    if path.startswith(f"{LIBRARY}/") and (ROOT / path).exists():
        return (SYSTEM,)
    return next((kinds for start, kinds in KINDS if path.startswith(start)), ())


def changed_steps() -> list[Step]:
    """Return the steps that a change can reach, and print what they run."""
    changed = changed_files()
    imports = Imports()
    files, whole = selected(changed, imports)
    every = sum(path.rpartition("/")[2].startswith("test_") for path in imports.tests)
    print(f"{len(changed)} files changed, which reach {len(files)} of {every} files of tests")
    if whole:
        print(f"all of them, because of {whole}")
    steps = restricted(STEPS, files)
    for step in steps:
        print(f"  {step.name:<12} {' '.join(step.tests)}")
    return steps


def restricted(steps: Sequence[Step], files: set[str]) -> list[Step]:
    """Return the steps that have something to do, each with the files of its own alone."""
    kept = []
    for step in steps:
        if not step.tests:
            kept.append(step)
            continue
        own = tuple(sorted(file for file in files if file.startswith(step.tests) and file not in step.ignored))
        if own:
            kept.append(replace(step, tests=own, ignored=()))
    needed = {step.needs for step in kept}
    prepares = {step.needs for step in steps}
    return [step for step in kept if step.name not in prepares or step.name in needed]
