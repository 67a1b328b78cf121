"""A worker is killed before and after every single call with which it submits or cancels a job on Vertex AI.

Whatever it has done until then, the next worker, with another home, finds it: there is one job, and it is ended whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Backend, Handle, Job, JobState, Options, load_backend
from modelway.backends.folders import generations
from modelway.backends.folders.stored import StoredFolders
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi

from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs
from tests.job_folders import store_code

#: whatever another process, or Google, can see of what a worker does
EFFECTS: tuple[tuple[object, str], ...] = (
    (GoogleApi, "call"),
    *((StoredFolders, name) for name in ("publish", "push", "pull", "pull_job")),
    *((generations, name) for name in ("write", "mark", "record")),
)


class Killed(BaseException):
    """The worker's end, which no code of it sees."""


class Kill:
    """Ends a worker at its n-th effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.after = False
        for owner, name in EFFECTS:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            self.left -= 1
            strikes, after = self.left == 0, self.after
            if strikes and not after:
                raise Killed
            found = effect(*given, **named)
            if strikes:
                raise Killed
            return found

        return counted

    @contextmanager
    def at(self, number: int, *, after: bool) -> Iterator[list[bool]]:
        """Kill what is done here at its n-th effect; give whether there was so many."""
        self.left, self.after, struck = number, after, [False]
        try:
            yield struck
        except Killed:
            struck[0] = True
        finally:
            self.left = 0


class World:
    """Google, and workers that each have a home of their own."""

    def __init__(self, folder: Path, fake: GoogleFake) -> None:
        self.folder, self.fake = folder, fake
        self.service: VertexJobs = fake.service(VertexJobs)
        self._code = store_code(folder / "source", "def train(job): ...\n")
        self.apis: list[GoogleApi] = []

    def worker(self) -> Backend:
        self.apis.append(GoogleApi(self.fake.connection(), retries=Retries(attempts=1)))
        return load_backend("vertex", home=self.folder / f"home-{len(self.apis)}", client=self.apis[-1])

    def submit(self, worker: Backend, run: str) -> Handle:
        platform = {"region": "us-central1"}
        options = Options(storage={"uri": (self.folder / "bucket").as_uri()}, platform=platform, image="image")
        job = Job(model="tiny", run=run, key="train", stage="train", action="train", module="tiny.py", code=self._code)
        return worker.submit(worker.build_request(job, options))

    def states(self, run: str) -> list[str]:
        """Return the states of a run's jobs, those of others left out."""
        return [job.state for job in self.service.jobs.values() if job.document["displayName"].split()[2] == run]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 0.0)
    monkeypatch.setattr("modelway.backends.vertex.backend.POLL_SECONDS", 0.01)
    with GoogleFake(VertexJobs) as fake:
        made = World(tmp_path, fake)
        yield made
        for api in made.apis:
            api.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_is_killed_at_any_call_of_a_submit_leaves_one_job(
    world: World, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    kill = Kill(monkeypatch)
    for number in range(1, 100):
        run = f"r{number}"
        with kill.at(number, after=after) as struck:
            world.submit(world.worker(), run)
        if not struck[0]:
            break
        second = world.worker()
        handle = world.submit(second, run)
        assert (handle.attempt, world.states(run)) == (1, ["RUNNING"]), f"killed at effect {number}"
        assert second.describe(handle).state is JobState.RUNNING
        assert world.submit(world.worker(), run) == handle
    assert number > 8, "every effect of a submit is one where it was killed"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_is_killed_at_any_call_of_a_cancel_leaves_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    kill = Kill(monkeypatch)
    for number in range(1, 100):
        run = f"r{number}"
        first = world.worker()
        handle = world.submit(first, run)
        with kill.at(number, after=after) as struck:
            first.cancel(handle)
        if not struck[0]:
            break
        second = world.worker()
        second.cancel(handle)
        assert (second.describe(handle).state, world.states(run)) == (JobState.CANCELLED, ["CANCELLED"])
        assert world.submit(second, run).attempt == 2, f"killed at effect {number}"
    assert number > 5, "every effect of a cancel is one where it was killed"
