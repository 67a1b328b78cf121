"""The notice that a job must leave: it reaches the code on every machine, and none that begins after it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelway.job.agent.notice import Notice

from tests.job_folders import write_job

PLUGINS = Path(__file__).parents[2] / "plugins"
#: an agent of one of two machines whose code is a shell script: torchrun would wait for the other machine
AGENT = """
import sys
from modelway.job.agent import __main__ as agent, launch
launch.command = lambda **given: ["sh", "-c", sys.argv[1]]
sys.exit(agent.main(sys.argv[2:]))
"""
WAITS = 'echo begun; while [ ! -e "$MODELWAY_NOTICE" ]; do sleep 0.05; done; exit 143'
LOOKS = 'echo begun; sleep 1; if [ -e "$MODELWAY_NOTICE" ]; then exit 143; fi'


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "g0" / "try-1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Path, list["subprocess.Popen[str]"]]]:
    write_job(tmp_path / "job", code="")
    started: list[subprocess.Popen[str]] = []
    yield tmp_path / "job", started
    for agent in started:
        agent.kill()
        agent.communicate()


def start(folder: Path, script: str, *, node: int) -> "subprocess.Popen[str]":
    words = [str(folder), "--attempt", "1", "--nodes", "2", "--node", str(node)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS)}
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, script, *words], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_notice_reaches_the_code_on_all_machines(attempt: Path) -> None:
    first, second = (Notice(attempt=attempt, node=node) for node in (0, 1))
    second.look()
    assert (first.told, second.told, first.path.exists(), second.path.exists()) == (False, False, False, False)
    first.give()
    second.look()
    assert (first.told, second.told, first.path.exists(), second.path.exists()) == (True, True, True, True)


def test_a_notice_of_before_is_none(attempt: Path) -> None:
    for notice in [Notice(attempt=attempt, node=node) for node in (0, 1)]:
        notice.give()
    first, second = (Notice(attempt=attempt, node=node) for node in (0, 1))
    for notice in (first, second):
        notice.look()
        assert (notice.told, notice.path.exists()) == (False, False)
    second.give()
    first.look()
    assert first.told
    assert first.path.exists()


def test_what_the_job_left_in_the_place_of_a_notice_is_not_followed(attempt: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("as it was")
    for name in ("notice", "notice-0"):
        (attempt / name).symlink_to(tmp_path / "outside")
    notice = Notice(attempt=attempt, node=0)
    notice.look()
    assert not notice.told
    notice.give()
    assert notice.told
    assert (tmp_path / "outside").read_text() == "as it was"


def test_the_machines_of_a_job_that_was_suspended_go_on_when_it_is_resumed(
    machines: tuple[Path, list["subprocess.Popen[str]"]],
) -> None:
    folder, started = machines
    started += [start(folder, WAITS, node=node) for node in (0, 1)]
    for agent in started:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "begun\n"
    started[1].send_signal(signal.SIGTERM)
    for node, agent in enumerate(started):
        agent.communicate(timeout=30)
        assert agent.returncode == 143
        assert json.loads((folder / "try-1" / f"exit-{node}.json").read_text())["stopped"]
    started += [start(folder, LOOKS, node=node) for node in (0, 1)]
    for agent in started[2:]:
        agent.communicate(timeout=30)
        assert agent.returncode == 0
