"""The README's main command, as a newcomer runs it: twice, then stopped while it serves."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from modelway.localairflow.restarts import MOST_RESTARTS

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
MODELWAY = Path(sys.executable).parent / "modelway"
#: a model that takes the place of the demo's
LIGHT = Path(__file__).parent / "demo_models"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


def environment(home, **more):
    return {**os.environ, "MODELWAY_HOME": str(home), "COLUMNS": "200", **more}


def modelway(home, *words, timeout=600, **more):
    return subprocess.run(
        [MODELWAY, *words],
        env=environment(home, **more),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )


def left_over(home):
    """Return the living processes that belong to a home folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        words = " ".join(process.info["cmdline"] or ()) + str((process.info["environ"] or {}).get("MODELWAY_HOME"))
        if str(home) in words and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(process)
    return found


@pytest.fixture(scope="module")
def first(home):
    return modelway(home, "demo", "--exit")


@pytest.fixture(scope="module")
def second(home, first):
    return modelway(home, "demo", "--exit")


def test_the_first_run_ends_with_a_summary(home, first):
    assert first.returncode == 0, first.stdout + first.stderr
    text = first.stdout
    assert "digits version 1" in text
    assert re.search(r"evaluate.checkpoint +done 2/2", text)
    assert re.search(r"checkpoint +\S+-00000\d \(least loss of 6 checkpoints\)", text)
    assert re.search(r"prediction +image 1234 shows a 2, version 1 answered \d", text)
    assert re.search(r"endpoint +http://127.0.0.1:\d+/v2/models/digits/infer \(version 1 100 %\)", text)
    assert re.search(r"image +oci-layout:\S+@sha256:[0-9a-f]{64} \(v1\)", text)
    assert re.search(r"DAG run +http://127.0.0.1:\d+/dags/digits/runs/manual", text)
    assert re.search(r"lineage +http://127.0.0.1:\d+/modelway/models/digits/versions/1", text)
    assert "split" not in text


def test_the_second_run_rolls_out_beside_the_first_by_weights(home, second):
    assert second.returncode == 0, second.stdout + second.stderr
    text = second.stdout
    assert "the endpoint digits serves again" in text
    assert "digits version 2" in text
    counts = {
        int(weight): {int(version): int(count) for version, count in re.findall(r"version (\d+): (\d+) \(", line)}
        for weight, line in re.findall(r"split at (\d+) % +(.*)", text)
    }
    assert sorted(counts) == [10, 50, 100]
    assert set(counts[100]) == {2}
    for weight in (10, 50):
        total = sum(counts[weight].values())
        assert total >= 100
        # Six standard deviations of a fair draw: a wrong split fails, chance does not.
        margin = 6 * (total * weight / 100 * (1 - weight / 100)) ** 0.5
        assert abs(counts[weight][2] - total * weight / 100) < margin, counts
    assert re.search(r"endpoint .*\(version 2 100 %\)", text)
    for weight in (10, 50):
        counts = r"[\d,]+ requests?, 0 failed"
        assert re.search(rf"judged at {weight} % +{counts} \(version 1: {counts}\); evidence .*: promote", text), text


def test_nothing_is_left_running(home, second):
    assert left_over(home) == []


def test_the_versions_are_reported_on_the_command_line(home, second):
    versions = modelway(home, "versions", "digits")
    assert versions.returncode == 0, versions.stderr
    assert re.search(r"2 .*champion", versions.stdout)
    shown = modelway(home, "show", "digits", "champion")
    assert shown.returncode == 0
    assert "model/model.safetensors" in shown.stdout
    assert modelway(home, "show", "digits", "1").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "digits", "7"), "no version '7'"),
        (("versions", "digit"), "Did you mean 'digits'?"),
        (("run", "digit"), "Did you mean 'digits'?"),
    ],
)
def test_what_is_unknown_is_refused_in_one_message(home, second, words, message):
    refused = modelway(home, *words)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def ran(home, second):
    """A run without the demo, whose server and gateway serve on and belong to no command."""
    done = modelway(home, "run", "digits", MODELWAY_MODELS=str(LIGHT))
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "digits version 3" in done.stdout
    assert "(version 3 100 %)" in done.stdout
    assert left_over(home) != []


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A folder of models with one that trains for ten minutes."""
    models = tmp_path_factory.mktemp("long") / "models"
    shutil.copytree(LIGHT, models, ignore=shutil.ignore_patterns("__pycache__"))
    spec = models / "digits" / "model.yaml"
    spec.write_text(spec.read_text().replace("seconds: 0", "seconds: 600"))
    return models


@contextlib.contextmanager
def demo_that_trains(home, models):
    """A demo that has come to its training, with the lines that it has printed."""
    demo = subprocess.Popen(
        [MODELWAY, "demo"],
        env=environment(home, MODELWAY_MODELS=str(models)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "train.warmup" in line:
                break
        yield demo, lines
    finally:
        for process in [demo, *left_over(home)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        demo.wait()
        demo.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_everything(home, ran, long, number):
    """The demo is stopped while it runs: Airflow, its jobs, the servers and the gateway end with it."""
    with demo_that_trains(home, long) as (demo, lines):
        url = next(found for line in lines if (found := re.search(r"digits \w+ \w+ at (\S+)", line))).group(1)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        for words in (("demo", "--exit"), ("run", "digits")):
            busy = modelway(home, *words)
            assert busy.returncode == 1
            assert f"`modelway demo` (process {demo.pid}) is running already" in busy.stderr
        time.sleep(3)
        # Who waits for the end presses Ctrl-C again.
        deadline = time.monotonic() + 300
        while demo.poll() is None and time.monotonic() < deadline:
            demo.send_signal(number)
            time.sleep(0.3)
        text = demo.communicate()[0]
        assert demo.returncode == 130
        assert "Traceback" not in text
        assert left_over(home) == []


def process_of(component, demo, *, but=()):
    """Wait for the process of one of the demo's components, another than those before; None: the demo has ended."""
    deadline = time.monotonic() + 300
    while demo.poll() is None:
        for each in psutil.Process(demo.pid).children():
            with contextlib.suppress(psutil.Error):
                # Airflow writes some of its components' names with an underscore.
                if each.pid not in but and f"airflow {component}" in " ".join(each.cmdline()).replace("_", "-"):
                    return each
        assert time.monotonic() < deadline, f"no other {component} was started"
        time.sleep(0.2)
    return None


@pytest.mark.parametrize("component", ["scheduler", "api-server"])
def test_a_component_that_dies_is_started_again_until_it_dies_too_often(home, second, long, component):
    with demo_that_trains(home, long) as (demo, _):
        killed = []
        while process := process_of(component, demo, but=killed):
            killed.append(process.pid)
            process.kill()
        assert len(killed) == MOST_RESTARTS + 1
        text = demo.communicate(timeout=300)[0]
        assert demo.returncode == 1
        assert f"airflow {component} ended with -9. Read the end of its log:" in text
        assert "Traceback" not in text
        assert left_over(home) == []


def test_a_home_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refused = modelway(tmp_path / "file" / "home", "demo", "--exit", timeout=60)
    assert refused.returncode == 1
    assert "is not a folder" in refused.stderr
    assert "MODELWAY_HOME" in refused.stderr
    assert "Traceback" not in refused.stderr
