"""The page about assets is true: its commands run in order and print what it shows, on both databases.

On SQLite each is a process of its own, which loads SQLAlchemy; on PostgreSQL this process runs those of modelway.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.cli import main
from modelway.lineage.store import open_lineage

from tests.lineage_samples import make_record

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "assets.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.M | re.S)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?Z")
DAYS = 24 * 60 * 60


class Shell:
    """Runs one command after another; ``cd`` is its own."""

    def __init__(self, place: Path, url: str) -> None:
        self.home, self.folder = place / "home", place / "work"
        self.folder.mkdir()
        self.environment = {
            **os.environ,
            "LOGNAME": "mia",
            "LC_ALL": "C.UTF-8",
            "MODELWAY_HOME": str(self.home),
            "MODELWAY_LINEAGE_URL": url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._here = url.startswith("postgresql")

    def run(self, command: str) -> str:
        if command.startswith("cd "):
            self.folder = self.folder / command.removeprefix("cd ")
            return ""
        if command.startswith("modelway gc"):
            self._wait_forty_days()
        if self._here and re.fullmatch(r"modelway [\w ./@:=,\"'-]+", command):
            return self._run_here(command)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # In no order of its own.
        lines = done.stdout.splitlines(keepends=True)
        return "".join(sorted(lines) if command.startswith("find ") else lines)

    def _run_here(self, command: str) -> str:
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            main(shlex.split(command)[1:])
        return printed.getvalue()

    def _wait_forty_days(self) -> None:
        for path in (self.home / "artifacts").rglob("*"):
            os.utime(path, (time.time() - 40 * DAYS,) * 2)

    def register(self, url: str) -> None:
        """Do what a run of the model digits would have done."""
        store = ArtifactStore((self.home / "artifacts").as_uri())
        made = {}
        for what in ("archive", "code", "checkpoint"):
            (self.folder / what).write_text(f"the {what} of digits")
            made[what] = store.put(self.folder / what, model="digits")
        record = make_record(
            archive_uri=made["archive"].uri,
            archive_digest=made["archive"].digest,
            archive_size=made["archive"].size,
            checkpoint_uri=made["checkpoint"].uri,
            checkpoint_digest=made["checkpoint"].digest,
            alias="champion",
        )
        code = {"code_uri": made["code"].uri, "code_digest": made["code"].digest, "code_size": made["code"].size}
        open_lineage(url).register(replace(record, run=replace(record.run, **code)))


def commands(text: str) -> list[tuple[str, str]]:
    """Return the page's commands, each with what it prints."""
    found = []
    for block in _BLOCK.findall(text):
        for part in block.split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


@pytest.fixture
def shell(tmp_path: Path, url: str) -> Shell:
    shell = Shell(tmp_path, url)
    shell.register(url)
    return shell


# A command leaves its connection to the end of its process.
@pytest.mark.filterwarnings("ignore:<psycopg.Connection .* was deleted while still open:ResourceWarning")
def test_the_page_is_true(shell: Shell) -> None:
    ran = []
    for command, shown in commands(PAGE.read_text()):
        printed = shell.run(command)
        assert _TIME.sub("TIME", printed) == _TIME.sub("TIME", shown), f"$ {command}\n{printed}"
        ran.append(command)
    words = {" ".join(command.split()[1:3]) for command in ran if command.startswith("modelway asset")}
    actions = ("init", "add", "alias", "ref", "upload", "download", "find", "show", "history", "diff")
    assert words == {f"asset {action}" for action in actions}
    assert len(ran) >= 30


def test_the_python_of_the_page_works(shell: Shell) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    environment = shell.environment | {"PYTHONPATH": str(ROOT / "plugins")}
    subprocess.run([sys.executable, "-c", code], cwd=shell.folder, env=environment, check=True)
    assert (shell.folder / "copies" / "notes" / "notes.txt").read_text() == "seen"
    assert "notes@1" in shell.run("modelway asset history notes")
