"""The demo's parts that meet an endpoint: what it brings back, and the requests that it sends meanwhile."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from modelway.builders.base import BuildOptions, load_builder
from modelway.cli import demo
from modelway.cli.output.traffic import Traffic
from modelway.endpoints.base import EndpointSpec, Predictor, load_endpoint
from modelway.hooks.settings import load_settings
from rich.console import Console

from tests.endpoint_clients import eventually
from tests.tiny_endpoint import model_layer
from tests.tiny_model import infer_body, write_model

HOST, PATH = "127.0.0.2", "/srv/model"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    return load_settings()


@pytest.fixture
def endpoint(settings):
    """An endpoint with one version, whose model lies elsewhere in its image than by default."""
    endpoint = load_endpoint("local", root=settings.endpoint_root)
    yield endpoint
    endpoint.delete(demo.MODEL)


@pytest.fixture
def spec(endpoint, tmp_path):
    folder = write_model(tmp_path / "1", scale=1, name=demo.MODEL)
    options = BuildOptions(name=demo.MODEL, layout=tmp_path / "layout")
    image = (
        load_builder("oci").build(layers=(model_layer(folder, path=PATH),), base="scratch", options=options).reference
    )
    spec = EndpointSpec(
        name=demo.MODEL,
        model=demo.MODEL,
        predictors=(Predictor(name="v1", version=1, image=image, weight=100, model_path=PATH),),
        stable="v1",
        platform={"host": HOST},
    )
    endpoint.apply(spec)
    return spec


def test_every_endpoint_of_the_home_comes_back_where_it_was(settings, endpoint, spec, capsys):
    other = replace(spec, name="other")
    try:
        before = [endpoint.status(demo.MODEL).url, endpoint.apply(other).url]
        assert demo.serving_names(settings) == {demo.MODEL, "other"}
        endpoint.stop(demo.MODEL)
        endpoint.stop("other")
        demo._restore(Console(), settings)
        after = [endpoint.status(name) for name in (demo.MODEL, "other")]
        assert [status.url for status in after] == before
        assert before[0].startswith(f"http://{HOST}:")
        assert all(status.ready for status in after)
        assert capsys.readouterr().out.count("serves again at") == 2
    finally:
        endpoint.delete("other")


def test_the_end_of_a_demo_leaves_what_served_before_it_began(settings, endpoint, spec):
    other = replace(spec, name="other")
    endpoint.apply(other)
    try:
        for others, stopped in (({"other"}, [True, False]), ((), [True, True])):
            demo._stop(settings, SimpleNamespace(stop=lambda: None, environment={}), others=others)
            assert [endpoint.status(name).stopped for name in (demo.MODEL, "other")] == stopped
    finally:
        endpoint.delete("other")


def traffic(endpoint, new=1):
    return Traffic(endpoint=endpoint, model=demo.MODEL, requests=[infer_body()], new=new)


def test_requests_wait_for_an_endpoint_that_is_not_ready(endpoint, spec):
    endpoint.stop(demo.MODEL)
    with traffic(endpoint) as sent:
        time.sleep(1)
        assert endpoint.status(demo.MODEL).predictors[0].weight == 100
        endpoint.apply(spec)
        eventually(lambda: sent.counted().get(100, {}).get(1, 0) >= 20)
    assert sent.problem() is None


def test_an_error_in_the_thread_of_the_requests_is_reported(settings, endpoint, spec):
    state = settings.endpoint_root / demo.MODEL / "state.json"
    text = state.read_text()
    with traffic(endpoint) as sent:
        eventually(lambda: sent.counted())
        state.write_text("{")
        eventually(lambda: sent.error)
    state.write_text(text)
    assert sent.problem().startswith("the requests during the rollout ended early: DigestMismatch: ")


def test_requests_that_fail_are_reported(endpoint, spec):
    with traffic(endpoint) as sent:
        eventually(lambda: sent.counted())
        sent.model = "another"
        eventually(lambda: sent.failures)
        sent.model = demo.MODEL
    assert "requests failed during the rollout: {'404': " in sent.problem()
