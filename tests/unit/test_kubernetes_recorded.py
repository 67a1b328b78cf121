"""Every moment of Jobs recorded on a Kubernetes 1.36 server, judged as by one who follows and by a newcomer."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import JobState, JobStatus
from modelway.backends.kubernetes.status import Observed, needs_events, status_of
from modelway.failures import FailureKind

FOLDER = Path(__file__).parent / "kubernetes-1.36"
RETRIED = {"evicted", "preempted", "node_lost", "vanished"}
#: what holds at each moment, in order: p(ending), r(unning), s(ucceeded) or the kind of failure
VERDICTS = {
    "deadline-ends-with-0": "p p r r r deadline deadline deadline",
    "deadline-of-the-job": "p p r r r deadline deadline deadline",
    "deadline-while-pending": "p p deadline deadline",
    "ephemeral-storage": "p p p r r r evicted evicted",
    "evicted-by-api": "p r r r r evicted evicted evicted",
    "evicted-ends-with-0": "p r r r r r r s",
    "evicted-one-of-two": "p r r r r evicted evicted evicted",
    "exit-3": "p r r r r bad_exit bad_exit bad_exit",
    "image-pull-no-registry": "p p p p p p image_pull image_pull",
    "image-pull-refused": "p p p p p p image_pull image_pull",
    "image-volume-missing-tag": "p p p p p p p image_pull",
    "image-volume-no-login": "p p p p p p p image_pull",
    "image-volume-not-unpacked": "p p p p p",
    "image-volume-raw-layer": "p p r bad_exit bad_exit",
    "image-volume-subpath-ignored": "p p r r bad_exit bad_exit",
    "image-volume-succeeded": "p p p p r s s",
    "image-volume-wrong-digest": "p p p p p p p image_pull",
    "init-container-failed": "p p p p init init",
    "job-deleted": "p p p r r r vanished",
    "out-of-memory": "p p r r r r out_of_memory out_of_memory",
    "pod-deleted": "p r r r r evicted evicted evicted",
    "preempted": "p r r r r preempted preempted preempted",
    "refused-by-restricted": "p p p p forbidden forbidden forbidden forbidden",
    "sidecar-crash-loops": "p r r r r r r s",
    "sidecar-killed-main-exit-7": "p p r r r bad_exit bad_exit bad_exit",
    "sidecar-killed-main-succeeded": "p p r r r r r s",
    "succeeded-one-node": "p p r r r r r s",
    "succeeded-two-nodes": "p p r r r r r s",
    "suspended-and-resumed": "p r r p p p r s",
    "suspended-while-running": "p r r r p p p p",
    "taint-noexecute": "p r r r r node_lost node_lost node_lost",
    "unschedulable": "p p p unschedulable",
}
#: what the last word on a job says
WORDS = {
    "ephemeral-storage": "exceeds the total limit of containers 20971520",
    "evicted-one-of-two": "-1-1-rrmtt was evicted",
    "exit-3": "exit status 3: cannot read the examples",
    "image-pull-no-registry": "connection refused",
    "image-pull-refused": "403 Forbidden",
    "image-volume-missing-tag": "registry.example/team/digits:none: not found",
    "init-container-failed": "'fetch' failed",
    "out-of-memory": "the limit is 64 MiB",
    "pod-deleted": "was deleted while it ran",
    "preempted": "reempt",
    "refused-by-restricted": "violates PodSecurity",
    "sidecar-killed-main-exit-7": "exit status 7: main broke",
    "suspended-while-running": "suspended",
    "unschedulable": "Insufficient cpu",
}


@cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def moments() -> Iterator[Any]:
    for name in sorted(VERDICTS):
        for index in range(len(recorded(name)["moments"])):
            yield pytest.param(name, index, id=f"{name}-{index}")


def judged(name: str, index: int, *, followed: bool) -> JobStatus:
    """Return the verdict at a moment; who has followed the job knows which pods ran, and since when they are gone."""
    record = recorded(name)
    moment = record["moments"][index]
    now = datetime.fromisoformat(record["begun"]) + timedelta(seconds=moment["seconds"])
    gone, gone_at = frozenset[str](), 0.0
    ran: set[str] = set()
    for earlier in record["moments"][: index + 1] if followed else ():
        there = {pod["metadata"]["name"] for pod in earlier["pods"]}
        gone_at = gone_at if gone else earlier["seconds"]
        gone = frozenset(ran - there)
        ran |= {pod["metadata"]["name"] for pod in earlier["pods"] if pod["status"].get("phase") == "Running"}
    jobs, pods, events = [moment["job"]] if moment["job"] else [], moment["pods"], moment["events"]
    seen = Observed(
        jobs=jobs,
        pods=pods,
        events=events if needs_events(jobs, pods, gone=bool(gone)) else (),
        gone=gone,
        gone_seconds=moment["seconds"] - gone_at,
        start_within_seconds=15.0 if name == "unschedulable" else 3600.0,
        nodes=2 if "two" in name else 1,
    )
    return status_of(seen, now=now)


def test_every_recording_has_its_verdicts() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(VERDICTS)
    for name, verdicts in VERDICTS.items():
        assert len(verdicts.split()) == len(recorded(name)["moments"]), name


@pytest.mark.parametrize("followed", [True, False], ids=["followed", "newcomer"])
@pytest.mark.parametrize(("name", "index"), moments())
def test_the_verdict_of_each_moment_is_right(name: str, index: int, followed: bool) -> None:
    status = judged(name, index, followed=followed)
    right = VERDICTS[name].split()[index]
    if right in list(FailureKind):
        assert (status.state, status.failure) == (JobState.FAILED, right), status
        # Over its own limit it would be again.
        assert status.retryable is (right in RETRIED and name != "ephemeral-storage")
    else:
        states = {"p": JobState.PENDING, "r": JobState.RUNNING, "s": JobState.SUCCEEDED}
        assert (status.state, status.failure) == (states[right], None), status
    if index == len(recorded(name)["moments"]) - 1:
        assert WORDS.get(name, "") in f"{status.reason} {status.waiting}"


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_a_job_is_never_over_while_a_pod_of_it_runs(name: str) -> None:
    """A next try would be a second writer."""
    for index, moment in enumerate(recorded(name)["moments"]):
        if any(pod["status"].get("phase") == "Running" for pod in moment["pods"]):
            assert not judged(name, index, followed=True).state.is_terminal
