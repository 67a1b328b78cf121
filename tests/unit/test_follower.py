"""How a job is followed: each thing is reported once, and what does not answer is not taken for dead."""

from typing import Any

import pytest
from modelway.backends.base import Handle, JobState, JobStatus
from modelway.failures import FailureKind
from modelway.following.follower import LOG_SECONDS, UNREACHABLE_SECONDS, Follower
from modelway.following.log_position import LogPosition

HANDLE = Handle(backend="fake", name="job", place="/jobs", attempt=1)
RUNNING, DONE = JobStatus(state=JobState.RUNNING), JobStatus(state=JobState.SUCCEEDED)


class Backend:
    """Answers with what a test has put in: a status or an error, and texts that are read one by one."""

    def __init__(self) -> None:
        self.status: Any = RUNNING
        self.texts: list[Any] = []

    def describe(self, handle: Handle) -> JobStatus:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        if offset >= len(self.texts):
            return "", offset
        if isinstance(self.texts[offset], Exception):
            raise self.texts[offset]
        return self.texts[offset], offset + 1


class Lab:
    def __init__(self) -> None:
        self.now, self.backend = 0.0, Backend()
        self.follower = Follower(self.backend, HANDLE, clock=lambda: self.now)  # type: ignore[arg-type]

    def step(self, status: Any = None, *, after: float = 1.0) -> Any:
        self.now += after
        if status is not None:
            self.backend.status = status
        return self.follower.step()


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_job_that_is_over_is_followed_until_its_log_is_read(lab: Lab) -> None:
    lab.backend.texts = ["a\nb\n", "c\n"]
    first, second, third = (lab.step(DONE) for _ in range(3))
    assert (first.lines, first.over) == (("a", "b"), False)
    assert (second.lines, second.over) == (("c",), False)
    assert (third.lines, third.over) == ((), True)
    assert lab.follower.offset == 2


def test_what_a_job_waits_for_is_reported_when_it_changes(lab: Lab) -> None:
    def waits(why: str) -> JobStatus:
        return JobStatus(state=JobState.PENDING, waiting=why)

    reported = [lab.step(status).lines for status in (waits("no node"), waits("no node"), waits("the image"), RUNNING)]
    assert reported == [("the job waits: no node",), (), ("the job waits: the image",), ("the job no longer waits",)]


def test_a_backend_that_goes_and_comes_back_is_reported_once_each(lab: Lab) -> None:
    unknown = JobStatus(state=JobState.UNKNOWN, reason="connection refused")
    assert lab.step(unknown).lines == (
        "the backend does not answer (connection refused); the job may continue, it is given up after 10 minutes",
    )
    assert lab.step(unknown, after=100).lines == ()
    assert lab.step(OSError("again")).lines == ()
    assert lab.step(RUNNING).lines == ("the backend answers again, after 102 seconds",)


def test_a_backend_that_stays_away_is_given_up_as_unreachable(lab: Lab) -> None:
    assert not lab.step(OSError("no route")).over
    assert not lab.step(after=UNREACHABLE_SECONDS - 1).over
    step = lab.step(after=1)
    assert step.over
    assert step.status.failure is FailureKind.UNREACHABLE
    assert step.status.reason == "the backend did not answer for 10 minutes, at last: OSError: no route"


def test_an_answer_begins_the_patience_anew(lab: Lab) -> None:
    lab.step(OSError("no route"))
    lab.step(RUNNING, after=UNREACHABLE_SECONDS - 1)
    lab.step(OSError("no route"))
    assert not lab.step(after=UNREACHABLE_SECONDS - 1).over


def test_a_log_that_cannot_be_read_for_a_while_is_not_lost(lab: Lab) -> None:
    lab.backend.texts = [OSError("reset")]
    step = lab.step(DONE)
    assert (step.over, step.lines) == (False, ("the job's log cannot be read now: OSError: reset",))
    lab.backend.texts = ["the end\n"]
    assert lab.step().lines == ("the end",)
    assert lab.step().over


def test_a_log_that_is_gone_makes_no_failure_of_a_success(lab: Lab) -> None:
    lab.backend.texts = [OSError("gone")]
    assert not lab.step(DONE).over
    step = lab.step(after=LOG_SECONDS)
    assert (step.over, step.status) == (True, DONE)
    assert step.lines == ("the rest of the job's log could not be read",)


def test_a_position_is_kept_until_it_is_forgotten(tmp_path) -> None:
    position = LogPosition(home=tmp_path, follower="one", first=7)
    assert position.read() == (7, 0)
    position.write(12)
    position.write(13)
    assert LogPosition(home=tmp_path, follower="one", first=7).read() == (13, 0)
    assert LogPosition(home=tmp_path, follower="another", first=7).read() == (7, 0)
    position.forget()
    position.forget()
    assert position.read() == (7, 0)
    assert list((tmp_path / "positions").iterdir()) == []


def test_a_position_that_cannot_be_written_stops_nothing(tmp_path) -> None:
    (tmp_path / "positions").write_text("a file is in the way")
    position = LogPosition(home=tmp_path, follower="one", first=7)
    position.write(12)
    position.forget()
    assert position.read() == (7, 0)
