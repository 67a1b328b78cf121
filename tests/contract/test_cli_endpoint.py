"""``modelway endpoint`` and ``modelway serving`` say what is so, of a real endpoint, and the lineage learns of it."""

import json
import os
import signal

import pytest
from modelway.cli import main
from modelway.endpoints.base import EndpointSpec, Predictor, load_endpoint
from modelway.hooks.settings import load_settings
from modelway.lineage.store import open_lineage

from tests.contract.test_endpoints import build_image
from tests.endpoint_clients import ask, eventually, pid_at
from tests.lineage_samples import make_record
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
