"""A sweep of four candidates, with each thing that can become of one, and the record of its version."""

from dataclasses import replace
from typing import Any

from modelway.lineage.records.version import VersionRecord
from modelway.runs.messages.candidates import CandidateResult, Sweep
from modelway.runs.record import with_candidates

from tests.lineage_samples import make_record

CANDIDATES = (
    CandidateResult(
        **{"id": "c01", "params": {"rate": 0.1, "name": "a<b>"}, "state": "trained", "stage": "full"},
        **{"checkpoint": "c01-full-000002", "metrics": {"loss": 0.5}, "seconds": 10.0, "cpu_seconds": 8.0},
    ),
    CandidateResult(
        **{"id": "c02", "params": {"rate": 0.25, "name": "x"}, "state": "selected", "stage": "full"},
        **{"checkpoint": "c02-full-000002", "metrics": {"loss": 0.25}, "seconds": 20.0, "gpu_seconds": 40.0},
    ),
    CandidateResult(
        **{"id": "c03", "params": {"rate": 9.0, "name": "y"}, "state": "stopped", "stage": "short"},
        **{"checkpoint": "c03-short-000001", "metrics": {"loss": None}, "not_finite": {"loss": "nan"}},
        reason="loss is nan",
    ),
    CandidateResult(id="c04", params={"rate": -1.0, "name": "z"}, state="failed", stage="short"),
)


def sweep_record(run_id: str = "r", **changes: Any) -> VersionRecord:
    """Return the record of a version that the second of four candidates became."""
    made = make_record(run_id, **changes)
    sweep = Sweep(method="halving", selected="c02", candidates=CANDIDATES)
    return replace(made, run=with_candidates(made.run, sweep))
