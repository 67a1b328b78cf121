"""The client of Airflow's REST API: a call that met a locked database is made again, any other refusal is reported."""

import httpx
import pytest
from modelway.errors import ModelwayError
from modelway.localairflow import rest
from modelway.localairflow.rest import AirflowApi

LOCKED = {"detail": {"reason": "Database error", "statement": "hidden"}}
LOCKED_BACKFILL = {"detail": "Database is locked. Backfill creation is not supported on SQLite."}


@pytest.fixture
def api(monkeypatch):
    """A client; ``api.answers`` are given one after another, the last one again and again."""
    monkeypatch.setattr(rest, "PAUSE_SECONDS", 0)
    client = httpx.Client
    api = None

    def answer(request):
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        api.asked.append((request.method, request.url.path))
        status, body = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
        return httpx.Response(status, json=body)

    monkeypatch.setattr(httpx, "Client", lambda **kept: client(transport=httpx.MockTransport(answer), **kept))
    api = AirflowApi(url="http://airflow", username="admin", password="p")
    api.asked = []
    return api


def test_a_call_that_met_a_locked_database_is_made_again(api):
    api.answers = [(500, LOCKED), (503, LOCKED_BACKFILL), (200, {"dag_run_id": "manual__1"})]
    assert api.trigger("digits") == "manual__1"
    assert api.asked == [("POST", "/api/v2/dags/digits/dagRuns")] * 3


def test_a_database_that_stays_locked_is_reported(api):
    api.answers = [(500, LOCKED)]
    with pytest.raises(ModelwayError, match="PATCH /dags/digits was answered 500: .*Database error"):
        api.unpause("digits")
    assert len(api.asked) == rest.ATTEMPTS


@pytest.mark.parametrize("status", [500, 503, 404, 409])
def test_another_refusal_is_reported_at_once(api, status):
    api.answers = [(status, {"detail": "no"})]
    with pytest.raises(ModelwayError, match=f"was answered {status}"):
        api.unpause("digits")
    assert len(api.asked) == 1
