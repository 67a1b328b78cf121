"""What the processes of a job on one and on several machines leave: their usage, and an end that all of them see."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelway.job.agent import process_tree
from modelway.job.agent.usage import Account

from tests.job_folders import write_job

PLUGINS = Path(__file__).parents[2] / "plugins"
AGENT = """
import sys
from modelway.job.agent import __main__ as agent, launch
launch.command = lambda **given: ["sh", "-c", sys.argv[1]]
sys.exit(agent.main(sys.argv[2:]))
"""
WAITS = 'echo begun; while [ ! -e "$MODELWAY_NOTICE" ]; do sleep 0.05; done; exit 143'
LOOKS = 'echo begun; sleep 1; if [ -e "$MODELWAY_NOTICE" ]; then exit 143; fi'


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Path, list["subprocess.Popen[str]"]]]:
    write_job(tmp_path / "job", code="")
    started: list[subprocess.Popen[str]] = []
    yield tmp_path / "job", started
    for agent in started:
        agent.kill()
        agent.communicate()


def start(folder: Path, script: str, *, node: int) -> "subprocess.Popen[str]":
    words = [str(folder), "--attempt", "1", "--nodes", "2", "--node", str(node), "--rendezvous", "localhost:1"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS)}
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, script, *words], env=environment, stdout=subprocess.PIPE, text=True
    )


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


def test_an_account_counts_processes_that_run_were_killed_and_left_others_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("modelway.job.agent.usage.RENEW_SECONDS", 0.0)
    burns = "import os, signal, time\nwhile time.process_time() < 0.4: pass\n"
    (tmp_path / "try-1").mkdir()
    account = Account(attempt=tmp_path / "try-1", node=3)
    before = process_tree.cpu_seconds()
    killed = subprocess.Popen([sys.executable, "-c", f"{burns}os.kill(os.getpid(), signal.SIGKILL)"])
    assert killed.wait() == -signal.SIGKILL
    runs = subprocess.Popen(
        [sys.executable, "-c", f"{burns}print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    )
    runs.stdout.readline()
    account.renew()
    runs.kill()
    runs.wait()
    runs.stdout.close()
    (path,) = (tmp_path / "try-1").glob("usage-3-*.json")
    assert json.loads(path.read_text())["cpu_seconds"] - before >= 0.75, "ticks are hundredths"
