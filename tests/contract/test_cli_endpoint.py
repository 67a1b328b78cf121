"""``modelway endpoint`` and ``modelway serving`` say what is so, of a real endpoint, and the lineage learns of it."""

import json
import os
import re
import signal
from dataclasses import replace

import psutil
import pytest
from modelway.cli import main
from modelway.endpoints.base import EndpointSpec, Predictor, load_endpoint
from modelway.endpoints.gateway.runtime_socket import Runtime, socket_path, unix_socket
from modelway.hooks.settings import load_settings
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage

from tests.endpoint_clients import ask, eventually, pid_at, processes_of
from tests.lineage_samples import make_record
from tests.tiny_endpoint import build_image
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home):
    """An endpoint of which the lineage knows."""
    endpoint = load_endpoint("local", root=home / "endpoints")
    image = build_image(write_model(home / "model", scale=1), home / "layout")
    spec = {"predictors": (Predictor(name="v1", version=1, image=image, weight=100),), "stable": "v1"}
    endpoint.apply(EndpointSpec(name="tiny", model="tiny", **spec))
    yield endpoint
    endpoint.delete("tiny")


@pytest.fixture(autouse=True)
def settings(home, served, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    settings = load_settings()
    store = open_lineage(settings.lineage_url)
    store.register(make_record("a", model="tiny"))
    store.record_weights(endpoint="tiny", model="tiny", weights={1: 100})
    store.record_endpoint(endpoint="tiny", model="tiny", url=served.status("tiny").url)
    return settings


def call(capsys, *words):
    status = main(words)
    shown = capsys.readouterr()
    return status, shown.out + shown.err


def state(capsys):
    (one,) = json.loads(call(capsys, "serving", "--json")[1])
    (listed,) = json.loads(call(capsys, "endpoint", "list", "--json")[1])
    return one["state"], listed["state"], one["url"]


def recorded_stop(settings):
    (one,) = open_lineage(settings.lineage_url).serving()
    return one.stopped_at


def test_what_is_stopped_is_said_as_stopped_and_comes_back(capsys, settings, served):
    url = served.status("tiny").url
    assert state(capsys) == ("answers", "answers", url)
    status, text = call(capsys, "endpoint", "stop", "tiny")
    assert (status, text) == (0, "endpoint tiny is stopped; `modelway endpoint start tiny` brings it back\n")
    assert recorded_stop(settings) is not None
    assert state(capsys)[0].startswith("stopped 20")
    assert state(capsys)[1:] == ("stopped", url)
    assert "stopped" in call(capsys, "endpoint", "list")[1]
    assert call(capsys, "endpoint", "start", "--all") == (0, f"endpoint tiny serves at {url}\n")
    assert (state(capsys), recorded_stop(settings)) == (("answers", "answers", url), None)
    assert ask(url, 1)[0][0] == 200


def test_a_restart_gives_it_new_processes(capsys, served):
    url = served.status("tiny").url
    before = pid_at(url)
    assert call(capsys, "endpoint", "restart", "tiny")[0] == 0
    assert pid_at(url) != before


def test_a_server_that_is_started_no_more_is_said_with_the_reason(capsys, home, served):
    (model,) = (home / "endpoints" / "images").glob("*/models/model/model.onnx")
    model.write_bytes(model.read_bytes() + b" ")
    os.kill(pid_at(served.status("tiny").predictors[0].url), signal.SIGKILL)
    eventually(lambda: state(capsys)[0] == "does not answer")
    eventually(lambda: "tiny v1: " in call(capsys, "endpoint", "list")[1])
    assert "its unpacked image is not as it was unpacked" in call(capsys, "endpoint", "list")[1]
    assert call(capsys, "endpoint", "start", "tiny")[0] == 0
    assert state(capsys)[0] == "answers"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("start", "tini"), "there is no endpoint 'tini'. Known: tiny. Did you mean 'tiny'?"),
        (("stop",), "name the endpoints, or give --all. Known: tiny."),
        (("stop", "tiny", "--all"), "name the endpoints, or give --all"),
    ],
)
def test_what_is_not_there_is_refused(capsys, words, message):
    status, text = call(capsys, "endpoint", *words)
    assert status == 1
    assert message in text


def test_an_endpoint_is_shown_with_its_predictors_and_their_requests(capsys, served):
    url = served.status("tiny").url
    before = served.metrics("tiny")["v1"].requests
    ask(url, 3)
    status, text = call(capsys, "endpoint", "show", "tiny")
    assert status == 0
    assert text.startswith(f"tiny  {url}  target local, stable v1, users by header x-user\n")
    assert re.search(rf"^v1 +tiny v1 +100 % +1 of 1 +{before + 3} +0 +0 ", text, re.MULTILINE)
    shown = json.loads(call(capsys, "endpoint", "show", "tiny", "--json")[1])
    assert (shown["metrics"]["v1"]["requests"], shown["drift"]) == (before + 3, [])


def test_a_target_that_cannot_be_reached_is_named_and_the_others_are_listed(capsys, settings):
    store = open_lineage(settings.lineage_url)
    store.register(make_record("far", model="far"))
    rollout = RolloutRecord(endpoint="far", run_id="far/r", model="far", version=1, state="running")
    store.begin_rollout(rollout)
    assert call(capsys, "endpoint", "list")[0] == 0, "it names no target"
    store.save_rollout(replace(store.rollout("far", "far/r"), detail={"target": "elsewhere"}, state="aborted"))
    status, text = call(capsys, "endpoint", "list")
    assert status == 1
    assert "tiny      local   http" in text
    assert "elsewhere: cannot be reached: " in text
    assert call(capsys, "endpoint", "stop", "far")[0] == 1
    assert call(capsys, "endpoint", "list", "--target", "local")[0] == 0
    store.save_rollout(
        RolloutRecord(
            endpoint="far", run_id="far/s", model="far", version=1, state="running", detail={"target": "local"}
        )
    )
    assert call(capsys, "endpoint", "list")[0] == 0


def test_what_was_changed_by_hand_is_listed(capsys, home, served):
    runtime = Runtime(unix_socket(socket_path(home / "endpoints" / "tiny")))
    runtime.send("set map plan.map plan none")
    what = "changed by hand: the gateway's shares are none, and those that were applied v1 100 %"
    assert f"tiny: {what}\n" in call(capsys, "endpoint", "list")[1]
    assert f"\n{what}\n" in call(capsys, "endpoint", "show", "tiny")[1]
    assert call(capsys, "endpoint", "start", "tiny")[0] == 0
    assert "by hand" not in call(capsys, "endpoint", "list")[1]


def test_weights_are_set_and_recorded_unless_a_rollout_is_running(capsys, settings, served):
    assert call(capsys, "endpoint", "weights", "tiny") == (0, "v1=100 (100 %)\n")
    assert call(capsys, "endpoint", "weights", "tiny", "v1=3") == (0, "v1=3 (100 %)\n")
    assert served.status("tiny").predictors[0].weight == 3
    store = open_lineage(settings.lineage_url)
    rollout = RolloutRecord(endpoint="tiny", run_id="tiny/r", model="tiny", version=1, state="running")
    assert not store.begin_rollout(rollout)
    assert call(capsys, "endpoint", "weights", "tiny", "v1=3")[0] == 0, "it has moved nothing"
    store.save_rollout(replace(rollout, step=0))
    status, text = call(capsys, "endpoint", "weights", "tiny", "v1=5")
    assert (status, served.status("tiny").predictors[0].weight) == (1, 3)
    assert "version 1 is being rolled out (run tiny/r). Wait until it is over" in text
    store.save_rollout(replace(store.rollout("tiny", "tiny/r"), state="aborted"))
    assert call(capsys, "endpoint", "weights", "tiny", "v1=100")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("weights", "tiny", "v1=x"), "'v1=x' is not a predictor and its weight"),
        (("weights", "tiny", "v1=1", "v1=2"), "'v1=2' is not a predictor and its weight"),
        (("weights", "tiny", "v2=1"), "there is no predictor 'v2' behind it. Known: v1."),
        (("weights", "tiny", "v1=0"), "all weights are zero"),
        (("show", "tini"), "there is no endpoint 'tini'. Known: tiny. Did you mean 'tiny'?"),
    ],
)
def test_weights_that_cannot_be_are_refused(capsys, words, message):
    status, text = call(capsys, "endpoint", *words)
    assert (status, message in text) == (1, True), text


def test_the_history_has_every_change_with_its_author(capsys, settings):
    store = open_lineage(settings.lineage_url)
    store.record_weights(endpoint="tiny", model="tiny", weights={1: 40}, actor="mia")
    store.record_weights(endpoint="tiny", model="tiny", weights={1: 100}, actor="tom", run_id="r")
    lines = call(capsys, "endpoint", "history", "tiny", "--limit", "2")[1].splitlines()
    assert [line.split()[2:] for line in lines[1:]] == [
        ["tiny", "v1", "100", "%", "tom", "r"],
        ["tiny", "v1", "40", "%", "mia", "-"],
    ]
    newest = json.loads(call(capsys, "endpoint", "history", "tiny", "--json")[1])[0]
    assert (newest["weight"], newest["run_id"]) == (100, "r")
    assert call(capsys, "endpoint", "history", "none") == (0, "nothing is recorded of an endpoint 'none'\n")


def test_after_a_restart_of_the_machine_what_nobody_stopped_comes_back(capsys, home, served):
    url = served.status("tiny").url
    while left := processes_of(home / "endpoints"):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)
    assert call(capsys, "endpoint", "up") == (0, f"endpoint tiny serves at {url}\n")
    assert state(capsys) == ("answers", "answers", url)
    served.stop("tiny")
    text = "endpoint tiny stays stopped; `modelway endpoint start tiny` brings it back\n"
    assert call(capsys, "endpoint", "up") == (0, text)
    assert call(capsys, "endpoint", "start", "tiny")[0] == 0
