"""A follower's reads of recorded Jobs, one after another, with what it remembers in the attempt's folder."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders import generations
from modelway.backends.folders.stored import SUBMITTED
from modelway.backends.kubernetes import inspect as module
from modelway.backends.kubernetes.attempts import AttemptRecord
from modelway.backends.kubernetes.folders import Folders
from modelway.backends.kubernetes.inspect import StatusReader

FOLDER = Path(__file__).parent / "kubernetes-1.36"


class Recorded:
    """The objects of one moment after another; a list of them says the same, or what is newer."""

    def __init__(self) -> None:
        self.moment: dict[str, Any] = {}
        self.newer: dict[str, Any] | None = None

    def of_attempt(self, record: AttemptRecord) -> tuple[list[Any], list[Any]]:
        return ([self.moment["job"]] if self.moment["job"] else []), self.moment["pods"]

    def now(self, record: AttemptRecord) -> tuple[list[Any], list[Any]]:
        moment = self.newer or self.moment
        return ([moment["job"]] if moment["job"] else []), moment["pods"]

    def events(self, namespace: str, name: str, *, now: bool) -> list[Any]:
        found: list[Any] = self.moment["events"]
        return found


def submitted(folder: Path, *, nodes: int = 1) -> Path:
    """Return the folder of an attempt that was submitted."""
    attempt = folder / "jobs" / "m" / "r" / "k" / "g0" / "try-1"
    attempt.mkdir(parents=True)
    AttemptRecord(
        name="mw-1", namespace="ml", nodes=nodes, launcher="job", start_within_seconds=3600, token="ours"
    ).write(attempt)
    generations.mark(attempt / SUBMITTED)
    return attempt


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("job-deleted", "pending pending pending running running running failed"),
        ("suspended-and-resumed", "pending running running pending pending pending running succeeded"),
        ("suspended-while-running", "pending running running running pending pending pending pending"),
        ("evicted-one-of-two", "pending running running running running failed failed failed"),
        ("deadline-of-the-job", "pending pending running running running failed failed failed"),
    ],
)
def test_a_follower_judges_each_moment(name: str, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((FOLDER / f"{name}.json").read_text())
    attempt = submitted(tmp_path, nodes=2 if "two" in name else 1)
    objects, clock = Recorded(), {"now": datetime.fromisoformat(record["begun"])}

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock["now"]

    monkeypatch.setattr(module, "datetime", Clock)
    look = StatusReader(objects=objects, folders=Folders(home=tmp_path))  # type: ignore[arg-type]
    found = []
    for moment in record["moments"]:
        objects.moment = moment
        clock["now"] = datetime.fromisoformat(record["begun"]) + timedelta(seconds=moment["seconds"])
        found.append(look.status(attempt).state.value)
    assert " ".join(found) == right
    if name == "suspended-and-resumed":
        # Long after it was resumed, when the events of that are forgotten, the first pod is no loss either.
        objects.moment = {**record["moments"][-2], "events": []}
        (attempt / "result.json").unlink()
        clock["now"] += timedelta(hours=3)
        assert look.status(attempt).state.value == "running"


def test_the_image_of_a_job_that_ended_before_a_pod_was_seen_with_it_is_known(tmp_path: Path) -> None:
    last = json.loads((FOLDER / "suspended-and-resumed.json").read_text())["moments"][-1]
    attempt, objects = submitted(tmp_path), Recorded()
    (pod,) = last["pods"]
    digest = pod["status"]["containerStatuses"][0]["imageID"].rpartition("@")[2]
    before = {**pod, "status": {"phase": "Pending"}}
    objects.moment, objects.newer = {**last, "pods": [before]}, last
    status = StatusReader(objects=objects, folders=Folders(home=tmp_path)).status(attempt)  # type: ignore[arg-type]
    assert (status.state.value, status.image_digest) == ("succeeded", digest)


def test_the_image_that_another_follower_recorded_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = json.loads((FOLDER / "suspended-and-resumed.json").read_text())["moments"][-1]
    attempt, objects = submitted(tmp_path), Recorded()
    objects.moment = {**last, "pods": []}
    ended = JobStatus(state=JobState.SUCCEEDED, image_digest=f"sha256:{'7' * 64}")
    monkeypatch.setattr(Folders, "pull", lambda folders, attempt: generations.record(attempt, ended))
    status = StatusReader(objects=objects, folders=Folders(home=tmp_path)).status(attempt)  # type: ignore[arg-type]
    assert status.image_digest == ended.image_digest
