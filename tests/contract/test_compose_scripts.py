"""The scripts of the compose deployment, with a stand-in for the command ``docker`` that records its calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "include" / "compose"
PARTS = ("airflow.dump", "lineage.dump", "home.tar", "registry.tar")
DOCKER = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
    *pg_dump*lineage) [ -z "${BROKEN:-}" ] || exit 1 ;;
esac
echo content
"""


class Compose:
    """A copy of the scripts with an ``.env``, and the calls of ``docker``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SCRIPTS, folder / "include" / "compose")
        (folder / ".env").write_text("ADMIN_PASSWORD=x\n")
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").write_text(DOCKER)
        (folder / "bin" / "docker").chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        known = {**os.environ, "PATH": path, "CALLS": str(self.folder / "calls"), **environment}
        argv = ["sh", str(self.folder / "include" / "compose" / script), *arguments]
        return subprocess.run(argv, env=known, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    return Compose(tmp_path)


def test_a_backup_is_restored(compose: Compose) -> None:
    saved = compose.run("backup.sh", f"{compose.folder}/backup/")
    assert (saved.returncode, saved.stderr) == (0, "")
    assert sorted(each.name for each in (compose.folder / "backup").iterdir()) == sorted((*PARTS, "env"))
    assert not (compose.folder / "backup.part").exists()
    (compose.folder / "calls").unlink()
    assert compose.run("restore.sh", f"{compose.folder}/backup").returncode == 0
    assert compose.calls[0] == "compose down --volumes --timeout 60"
    assert compose.run("backup.sh", f"{compose.folder}/backup").stderr == f"{compose.folder}/backup exists already\n"


@pytest.mark.parametrize("missing", PARTS)
@pytest.mark.parametrize("is_empty", [True, False])
def test_nothing_is_erased_for_a_backup_that_is_not_whole(compose: Compose, missing: str, is_empty: bool) -> None:
    backup = compose.folder / "backup"
    backup.mkdir()
    for part in PARTS:
        (backup / part).write_text("content")
    (backup / missing).write_text("") if is_empty else (backup / missing).unlink()
    refused = compose.run("restore.sh", str(backup))
    assert refused.returncode == 1
    assert f"{backup}/{missing} is missing or empty" in refused.stderr
    assert compose.calls == []


def test_a_backup_that_fails_is_not_taken_for_one(compose: Compose) -> None:
    backup = compose.folder / "backup"
    assert compose.run("backup.sh", str(backup), BROKEN="yes").returncode == 1
    assert not backup.exists()
    # The next one begins anew.
    assert compose.run("backup.sh", str(backup)).returncode == 0


def test_settings_are_added_after_a_last_line_without_its_end(compose: Compose) -> None:
    file = compose.folder / ".env"
    file.write_text("ADMIN_PASSWORD=x\nUI_PORT=8081")
    for _ in range(2):
        assert compose.run("make_env.sh", str(file)).returncode == 0
    lines = file.read_text().splitlines()
    assert lines[:2] == ["ADMIN_PASSWORD=x", "UI_PORT=8081"]
    assert all("=" in line for line in lines if not line.startswith("#"))
    assert len([line for line in lines if line.startswith("POSTGRES_PASSWORD=")]) == 1
