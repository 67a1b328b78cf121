"""What of an endpoint ends by itself is started again, by a process of its own, up to a limit."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Predictor, load_endpoint
from modelway.endpoints.local.supervisor import RESTARTS

from tests.endpoint_clients import ask, eventually, pid_at, processes_of
from tests.tiny_endpoint import build_image
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "endpoints"


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Endpoint]:
    """One endpoint for all tests, which each leave it running."""
    image = build_image(write_model(root.parent / "model", scale=1), root.parent / "layout")
    endpoint = load_endpoint("local", root=root)
    predictors = (Predictor(name="v1", version=1, image=image, weight=100),)
    endpoint.apply(EndpointSpec(name="tiny", model="tiny", predictors=predictors, stable="v1"))
    yield endpoint
    endpoint.delete("tiny")
    assert processes_of(root) == []


def status_of(endpoint: Endpoint) -> EndpointStatus:
    status = endpoint.status("tiny")
    assert status is not None
    return status


def supervisor(root: Path) -> psutil.Process:
    (found,) = (process for process in processes_of(root) if "modelway.endpoints.local.supervisor" in process.cmdline())
    return found


def change_state(root: Path, **changes: object) -> None:
    """Write into the state as a process of another time left it."""
    path = root / "tiny" / "state.json"
    document = json.loads(path.read_text())
    document["servers"][0] |= changes
    path.write_text(json.dumps(document))


def test_a_server_that_ended_comes_back(served: Endpoint) -> None:
    before = status_of(served)
    os.kill(pid_at(before.predictors[0].url), signal.SIGKILL)
    eventually(lambda: status_of(served).predictors[0].restarts > before.predictors[0].restarts)
    eventually(lambda: status_of(served).ready)
    eventually(lambda: ask(before.url, 1)[0][0] == 200)


def test_a_gateway_that_ended_comes_back_at_its_address(served: Endpoint) -> None:
    before = status_of(served)
    gateway = pid_at(before.url)
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: status_of(served).ready and pid_at(before.url) != gateway)
    assert ask(before.url, 1)[0][0] == 200


def test_a_server_that_ends_again_and_again_is_left_with_the_reason_until_somebody_starts_it(
    served: Endpoint, root: Path
) -> None:
    change_state(root, life={"restarts": RESTARTS, "ends": [time.time() - 60] * RESTARTS})
    os.kill(pid_at(status_of(served).predictors[0].url), signal.SIGKILL)
    eventually(lambda: bool(status_of(served).predictors[0].problem))
    left = status_of(served)
    assert not left.ready
    assert f"the {RESTARTS + 1}th time in 10 minutes, so it is not started again" in left.predictors[0].problem
    assert left.gateway_ready
    assert served.start("tiny").ready
    assert (status_of(served).predictors[0].restarts, status_of(served).predictors[0].problem) == (0, "")


def test_the_supervisor_itself_is_started_again_by_the_next_command(served: Endpoint, root: Path) -> None:
    before = status_of(served)
    servers = [pid_at(before.url), pid_at(before.predictors[0].url)]
    killed = supervisor(root)
    killed.kill()
    killed.wait(10)
    after = served.start("tiny")
    assert [pid_at(after.url), pid_at(after.predictors[0].url)] == servers
    assert supervisor(root).is_running()


def test_a_process_that_got_the_number_of_an_ended_server_is_left_alone(served: Endpoint, root: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        served.stop("tiny")
        change_state(root, pid=stranger.pid, port=1)
        assert not status_of(served).ready
        assert served.start("tiny").ready
        served.stop("tiny")
        assert stranger.poll() is None
        stranger.kill()
    assert served.start("tiny").ready


def test_what_somebody_stopped_stays_stopped(served: Endpoint, root: Path) -> None:
    before = status_of(served)
    served.stop("tiny")
    assert processes_of(root) == []
    stopped = status_of(served)
    assert (stopped.stopped, stopped.ready, stopped.gateway_ready, stopped.url) == (True, False, False, before.url)
    again = served.start("tiny")
    assert (again.ready, again.stopped, again.url) == (True, False, before.url)
    assert served.names() == ("tiny",)
