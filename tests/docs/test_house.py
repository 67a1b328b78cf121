"""The house keeps its own rules."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "plugins" / "modelway"
SOURCES = sorted(path for path in LIBRARY.rglob("*") if path.suffix in (".py", ".html", ".css", ".js"))
DECISIONS = sorted((ROOT / "docs" / "adr").glob("0*.md"))
GRAB_BAGS = {"utils", "helpers", "common", "constants", "manager"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_file_is_about_one_thing(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem.strip("_") not in GRAB_BAGS


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_what_violates_it_and_which_test_notices(path):
    text = path.read_text()
    for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Violated when**"):
        assert part in text
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text()


def test_every_file_that_the_repository_holds_is_small():
    held = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = {name: (ROOT / name).stat().st_size for name in held.stdout.split("\0") if name and (ROOT / name).exists()}
    assert max(sizes.values()) < 1_000_000, max(sizes, key=lambda name: sizes[name])


def test_requirements_are_pinned_exactly():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith(("#", " "))]
    assert len(pins) > 50
    assert all(re.match(r"^[a-zA-Z0-9._-]+==[^\s]+( ; .+)?$", line) for line in pins)
    assert "torch==2.13.0" in pins


def test_the_files_of_what_is_installed_have_digests():
    pins = re.findall(r"^([a-zA-Z0-9._-]+==\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    hashed = (ROOT / "include/install/requirements-hashed.txt").read_text().replace("\\\n", "").splitlines()
    entries = [line for line in hashed if line and not line.startswith("#")]
    names = {line.split()[0] for line in entries}
    assert names < {pin for pin in pins if not pin.startswith("torch==")}
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}", line) for line in entries)


def test_the_provider_of_google_is_in_the_lock_and_not_installed_for_the_demo():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    assert tuple(map(int, pins["apache-airflow-providers-google"].split("."))) >= (22, 8, 0)
    installed = re.findall(
        r"^([\w.-]+)==", (ROOT / "include/install/requirements-hashed.txt").read_text(), flags=re.MULTILINE
    )
    assert not {"apache-airflow-providers-google", "ray", "google-cloud-aiplatform"} & set(installed)
    assert len(pins) - len(installed) > 80


def test_the_lock_holds_everything_that_pyproject_asks_for():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [text for extra in project["optional-dependencies"].values() for text in extra]
    pins = dict(re.findall(r"^([a-zA-Z0-9._-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    canonical = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for text in wanted:
        requirement = Requirement(text)
        if requirement.name == "modelway":
            continue
        pinned = canonical[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(pinned, prereleases=True), (text, pinned)
