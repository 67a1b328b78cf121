"""A follower's looks at recorded Jobs, one after another, with what it remembers in the try's folder."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.folders import generations
from modelway.backends.folders.stored import SUBMITTED
from modelway.backends.kubernetes import inspect as module
from modelway.backends.kubernetes.attempts import AttemptRecord
from modelway.backends.kubernetes.folders import Folders
from modelway.backends.kubernetes.inspect import StatusReader

FOLDER = Path(__file__).parent / "kubernetes-1.36"


class Recorded:
    """The objects of one moment after another; what was asked for by itself is the same."""

    def __init__(self) -> None:
        self.moment: dict[str, Any] = {}

    def of_attempt(self, record: AttemptRecord) -> tuple[list[Any], list[Any]]:
        return ([self.moment["job"]] if self.moment["job"] else []), self.moment["pods"]

    now = of_attempt

    def events(self, namespace: str, name: str, *, now: bool) -> list[Any]:
        found: list[Any] = self.moment["events"]
        return found


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
    attempt = tmp_path / "jobs" / "m" / "r" / "k" / "g0" / "try-1"
    attempt.mkdir(parents=True)
    nodes = 2 if "two" in name else 1
    AttemptRecord(
        name="mw-1", namespace="ml", nodes=nodes, launcher="job", start_within_seconds=3600, token="ours"
    ).write(attempt)
    generations.mark(attempt / SUBMITTED)
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
