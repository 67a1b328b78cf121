"""What the commands start and end: Airflow's components, everything below them, and one command per home folder."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from modelway.errors import EndpointNotReady, ModelwayError
from modelway.localairflow.home_lock import only_one
from modelway.localairflow.processes import LocalAirflow
from modelway.localairflow.rest import AirflowApi
from modelway.localairflow.restarts import MOST_RESTARTS, Restarts

from tests.job_folders import runs

REPOSITORY = Path(__file__).parents[2]

STOPS_WHILE_CHILDREN_END = """
import os, subprocess, sys, threading
from modelway.localairflow import processes

def start_and_reap():
    while True:
        for each in [subprocess.Popen(["true"]) for _ in range(20)]:
            each.wait()

for _ in range(2):
    threading.Thread(target=start_and_reap, daemon=True).start()
processes.STOP_SECONDS = 0.1
sleeper = subprocess.Popen(["sleep", "60"])
for _ in range(30):
    processes.stop_descendants()
print("gone" if sleeper.poll() is not None else "lives", flush=True)
os._exit(0)
"""

STOPS_ALL_BUT = """
import subprocess, sys
from pathlib import Path
from modelway.localairflow.processes import adopt_orphans, stop_descendants

adopt_orphans()
wait = "import time; time.sleep(60)"

def start(word):
    command = [sys.executable, "-c", wait, sys.argv[1] + word]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL).pid

spared, other = start("/digits/run.json"), start("-of-another")
# Its parent is gone at once, as a job's when the process that runs the DAG is killed.
code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {wait!r}], stdout=2).pid)"
orphan = int(subprocess.run([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE).stdout)
stop_descendants(spare=Path(sys.argv[1]))
print(spared, other, orphan)
"""


def test_children_that_end_by_themselves_meanwhile_do_not_keep_the_others_alive():
    done = subprocess.run([sys.executable, "-c", STOPS_WHILE_CHILDREN_END], capture_output=True, text=True, timeout=60)
    assert done.stdout == "gone\n", done.stderr[-2000:]


def test_everything_below_ends_but_what_serves(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STOPS_ALL_BUT, str(tmp_path)], stdout=subprocess.PIPE, text=True, timeout=60
    )
    spared, other, orphan = map(int, done.stdout.split())
    try:
        assert runs(spared)
        assert not runs(other)
        assert not runs(orphan)
    finally:
        psutil.Process(spared).kill()


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    """Airflow with its settings made and nothing started; its database counts as made."""
    for name, value in {
        "AIRFLOW_CONFIG": "/of/another/installation.cfg",
        "AIRFLOW__CORE__XCOM_BACKEND": "no.such.Backend",
        "AIRFLOW_CONN_MODELWAY_REGISTRY": "http://me:s3cret@registry",
    }.items():
        monkeypatch.setenv(name, value)
    airflow = LocalAirflow(home=tmp_path, repository=REPOSITORY)
    (airflow.folder / "logs").mkdir(parents=True)
    (airflow.folder / "migrated").write_text(version("apache-airflow"))
    (airflow.folder / "passwords.json").write_text("{}")
    airflow.prepare()
    return airflow


def test_no_other_user_can_read_the_secrets(airflow):
    for name in ("secrets.json", "passwords.json"):
        assert (airflow.folder / name).stat().st_mode & 0o777 == 0o600
    assert json.loads((airflow.folder / "passwords.json").read_text()) == {"admin": airflow.password}


def test_the_users_own_airflow_stays_out_but_for_its_connections(airflow):
    assert "AIRFLOW_CONFIG" not in airflow.environment
    assert "AIRFLOW__CORE__XCOM_BACKEND" not in airflow.environment
    assert airflow.environment["AIRFLOW_CONN_MODELWAY_REGISTRY"] == "http://me:s3cret@registry"


def test_a_component_that_ended_is_named_with_its_last_lines(airflow):
    with (airflow.folder / "logs" / "scheduler.txt").open("w") as log:
        ended = subprocess.Popen(["sh", "-c", "echo the disk is full; exit 3"], stdout=log)
    airflow.processes = {"triggerer": subprocess.Popen(["sleep", "60"]), "scheduler": ended}
    ended.wait()
    try:
        with pytest.raises(EndpointNotReady) as reported:
            airflow.check()
    finally:
        airflow.stop()
    assert "airflow scheduler ended with 3" in str(reported.value)
    assert "the disk is full" in str(reported.value)


STARTS_COMPONENT = """
import json, runpy, sys
import airflow.__main__ as command

def main():
    imported = [name for name in ("modelway.dag", "modelway.bundle") if name in sys.modules]
    print(json.dumps([sys.argv, imported, sys.path[0]]))

command.main = main
sys.argv, sys.path = sys.argv[1:], [sys.argv[1].rpartition("/")[0], *sys.path[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("component", ["scheduler", "dag-processor"])
def test_what_tasks_and_parsing_import_is_there_before_their_processes_are_forked(airflow, component):
    command = [sys.executable, "-c", STARTS_COMPONENT, *airflow._command(component, "--num-runs", "1")[1:]]
    done = subprocess.run(command, env=airflow.environment, cwd=airflow.folder, capture_output=True, text=True)
    words, imported, first = json.loads(done.stdout.splitlines()[-1])
    assert words == ["airflow", component, "--num-runs", "1"]
    assert imported == ["modelway.dag", "modelway.bundle"]
    assert "localairflow" not in first, "its files are no modules of the top level"


@pytest.fixture
def components(airflow, monkeypatch):
    """Components that run until their file says how they end."""
    script = "import pathlib, sys, time\nend = pathlib.Path(sys.argv[1])\nwhile not end.exists(): time.sleep(0.05)\n"
    script += "text = end.read_text()\nend.unlink()\nsys.exit(text)"
    monkeypatch.setattr(
        airflow, "_command", lambda *words: [sys.executable, "-c", script, str(airflow.home / words[0])]
    )
    for component in ("scheduler", "triggerer"):
        airflow.start_component(component)
    yield airflow
    airflow.stop()


def test_a_component_that_ended_is_started_again_until_it_ends_too_often(components):
    restarts, triggerer = Restarts(components), components.processes["triggerer"]
    restarts.check()
    for _ in range(MOST_RESTARTS):
        ended = components.processes["scheduler"]
        (components.home / "scheduler").write_text("database is locked")
        ended.wait(timeout=60)
        restarts.check()
        assert components.processes["scheduler"].poll() is None
        assert components.processes["scheduler"].pid != ended.pid
    (components.home / "scheduler").write_text("the last of its ends")
    components.processes["scheduler"].wait(timeout=60)
    with pytest.raises(EndpointNotReady, match=r"airflow scheduler ended with 1(.|\n)*the last of its ends"):
        restarts.check()
    assert components.processes["triggerer"] is triggerer


def test_a_component_that_ends_while_it_is_started_again_has_its_other_restarts(components, monkeypatch):
    """Its end a moment after its start is seen by the next check, which starts it once more."""
    start = components.start_component

    def start_what_ends(component):
        start(component)
        components.processes[component].kill()
        components.processes[component].wait()

    monkeypatch.setattr(components, "start_component", start_what_ends)
    components.processes["scheduler"].kill()
    components.processes["scheduler"].wait()
    restarts = Restarts(components)
    for _ in range(MOST_RESTARTS):
        restarts.check()
    with pytest.raises(EndpointNotReady, match="airflow scheduler ended with -9"):
        restarts.check()


def test_a_component_without_heartbeats_is_started_again(components, monkeypatch):
    now = datetime.now(tz=UTC)
    health = {
        "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": (now - timedelta(hours=1)).isoformat()},
        "triggerer": {"status": "unhealthy", "latest_triggerer_heartbeat": now.isoformat()},
    }
    before = dict(components.processes)
    restarts = Restarts(components)
    monkeypatch.setattr(restarts, "_health", lambda: health)
    monkeypatch.setattr("modelway.localairflow.restarts.PAUSE_SECONDS", 0)
    restarts._next_health = 0
    restarts.check()
    assert components.processes == before, "it was started a moment ago"
    monkeypatch.setattr("modelway.localairflow.restarts.SILENT_SECONDS", 0.2)
    time.sleep(0.5)
    health["triggerer"]["latest_triggerer_heartbeat"] = (datetime.now(tz=UTC) + timedelta(hours=1)).isoformat()
    restarts.check()
    assert components.processes["scheduler"].pid != before["scheduler"].pid
    assert components.processes["triggerer"] is before["triggerer"]


class OnlyLogin(http.server.BaseHTTPRequestHandler):
    """Logs in whoever asks, as Airflow does."""

    def do_POST(self):
        self.send_response(201)
        self.end_headers()
        self.wfile.write(b'{"access_token": "t"}')

    def log_message(self, *words):
        pass


def test_an_airflow_that_does_not_answer_is_reported_without_a_traceback():
    server = http.server.HTTPServer(("127.0.0.1", 0), OnlyLogin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    api = AirflowApi(url=url, username="admin", password="p")
    server.shutdown()
    thread.join()
    server.server_close()
    for call in (
        lambda: AirflowApi(url=url, username="admin", password="p"),
        lambda: api.run_state("digits", "r1"),
        lambda: api.xcom("digits", "r1", "package"),
        lambda: api.wait_for_dag("digits"),
    ):
        with pytest.raises(EndpointNotReady, match=rf"^{url}: Airflow's API does not answer \(ConnectError: "):
            call()


HOLDS = """
import sys
from pathlib import Path
from modelway.localairflow.home_lock import only_one
with only_one(Path(sys.argv[1]), command="modelway demo"):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_home_folder_is_held_by_one_command_for_as_long_as_it_lives(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "holds\n"
    reported = rf"`modelway demo` \(process {holder.pid}\) is running already"
    with pytest.raises(ModelwayError, match=reported), only_one(tmp_path, command="modelway run digits"):
        pass
    holder.kill()
    holder.communicate()
    with only_one(tmp_path, command="modelway run digits"):
        assert f"(process {os.getpid()})" in (tmp_path / "home.lock").read_text()


ENDS = """
import atexit, sys
from modelway.platforms.processes.ending import Ending

class Object:
    def __del__(self):
        print("freed")

kept = Object()
kept.itself = kept

def work():
    atexit.register(print, "registered later")
    print("worked")
    {end}

Ending().run(work)
"""


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(143)", 143, ""),
        ("sys.exit('the reason')", 1, "the reason\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    ],
)
def test_a_process_ends_as_python_does_and_frees_nothing(end, status, error):
    command = [sys.executable, "-c", ENDS.format(end=end)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "worked\nregistered later\n")
    assert done.stderr.endswith(error)
    assert bool(done.stderr) == bool(error)
