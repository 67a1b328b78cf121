"""The triggerer follows jobs on Vertex AI, and does other things while Google or a token is slow."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Backend, Handle, Job, Options, load_backend
from modelway.platforms.google.connection import Source
from modelway.triggers import job as job_module
from modelway.triggers.job import JobTrigger

from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs
from tests.job_folders import store_code


@pytest.fixture
def fake() -> Iterator[GoogleFake]:
    with GoogleFake(VertexJobs) as running:
        running.logins.required = True
        yield running


@pytest.fixture
def backend(fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have the triggerer find a backend that calls with a key, and looks often."""
    client = fake.connection(source=Source.KEY, key=fake.key())
    made: Any = load_backend("vertex", home=tmp_path / "home", client=client)
    monkeypatch.setattr(job_module, "backend_from_airflow", lambda name, *, home: made)
    monkeypatch.setattr(job_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("modelway.backends.vertex.pace.LEAST_SECONDS", 0.01)
    monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 0.0)
    yield made
    made.api.close()


@pytest.fixture
def handle(backend: Backend, tmp_path: Path) -> Handle:
    """Return the handle of a job that runs."""
    code = store_code(tmp_path / "source", "def train(job): ...\n")
    job = Job(model="tiny", run="r1", key="train", stage="train", action="train", module="tiny.py", code=code)
    options = Options(storage={"uri": (tmp_path / "bucket").as_uri()}, platform={"region": "us-central1"}, image="i")
    return backend.submit(backend.build_request(job, options))


def test_a_triggerer_follows_a_job_and_is_never_held_up_by_google(
    fake: GoogleFake, backend: Any, handle: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while a token is fetched nor while a list is not answered: another coroutine ends each of them."""
    service: VertexJobs = fake.service(VertexJobs)
    waits: list[str] = []
    may_go = threading.Event()

    def slowly(name: str, done: Any) -> Any:
        def held(*given: Any) -> Any:
            waits.append(name)
            assert may_go.wait(60), f"the event loop was held up by {name}"
            may_go.clear()
            return done(*given)

        return held

    lists = fake._handlers["aiplatform.projects.locations.customJobs.list"]
    monkeypatch.setattr(fake.logins, "issue", slowly("a token", fake.logins.issue))
    fake.handle("aiplatform.projects.locations.customJobs.list", slowly("a list", lists))
    fake.logins.revoke()
    stored = JobTrigger(handle=handle.to_dict(), home=str(tmp_path / "home"), follower="f").serialize()[1]

    async def followed() -> Any:
        trigger = JobTrigger(**json.loads(json.dumps(stored)))
        event = asyncio.ensure_future(anext(trigger.run()))
        for number in range(1, 4):
            while len(waits) < number:
                await asyncio.sleep(0.005)
            assert not event.done()
            if number == 3:
                (job,) = service.jobs.values()
                service.stop(job, "SUCCEEDED", 0, "", at_once=True)
                await asyncio.sleep(0.1)
            may_go.set()
        while not event.done():
            may_go.set()
            await asyncio.sleep(0.005)
        return event.result().payload

    payload = asyncio.run(asyncio.wait_for(followed(), 60))
    assert payload["handle"] == handle.to_dict()
    assert payload["status"]["state"] == "succeeded"
    assert waits[:3] == ["a token", "a list", "a list"]
