"""The guide for authors is true: its files are written, its commands are run, and they print what it shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "authoring.md").read_text()
_BLOCK = re.compile(r"^```(?P<language>yaml|console)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```", re.M | re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    (folder / "include" / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    yield folder
    from modelway.endpoints.base import load_endpoint

    load_endpoint("local", root=folder / "home" / "endpoints").delete("circles")


def run(command, place):
    environment = {
        **os.environ,
        "MODELWAY_MODELS": str(place / "include" / "models"),
        "MODELWAY_HOME": str(place / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        shlex.split(command), cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def matches(printed, shown):
    """Whether that was printed: a line of ``…`` stands for any lines, one within a line for any text."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown.splitlines()
    )
    return re.fullmatch(pattern, printed if not printed or printed.endswith("\n") else printed + "\n") is not None


def test_the_guide_is_true(place):
    commands = []
    for block in _BLOCK.finditer(GUIDE):
        if block["language"] == "yaml":
            if block["title"]:
                file = place / block["title"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block["text"].replace("/data/", f"{place}/data/"))
                if file.name == "model.yaml" and file.parent.name == "ovals":
                    code = place / "include" / "models" / "circles" / "circles.py"
                    (file.parent / "ovals.py").write_text(code.read_text())
            continue
        for part in block["text"].split("$ ")[1:] if block["text"].startswith("$ ") else []:
            command, _, shown = part.partition("\n")
            printed = run(command, place)
            assert matches(printed, shown), f"$ {command}\n{printed}"
            commands.append(command)
    assert "modelway run circles" in commands
    assert len(commands) >= 7


def test_what_the_guide_shows_has_to_be_printed():
    assert matches("a\nb\nc 1\n", "a\n…\nc …\n")
    assert not matches("a\nb\n", "a\n")
    assert not matches("a\n", "a\n…\nc …\n")
