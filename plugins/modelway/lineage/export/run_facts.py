"""Runs in the facts of the outbox: a run record to JSON and back, and the candidates of its sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from modelway.lineage.records.addresses import public_address
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import CandidateRecord, DatasetRecord, RunRecord

#: what is exported of a run before it has made a version: no configuration, which may be large or name secrets
_EXPORTED = (
    *("dag_id", "run_id", "actor", "run_type", "started_at", "code_digest", "commit", "branch", "dirty", "repository"),
    *("seed", "inputs_digest", "interval_start", "interval_end", "partition", "run_after", "reason"),
)
_TIMES = ("started_at", "interval_start", "interval_end", "run_after")


def run_to_dict(run: RunRecord) -> dict[str, Any]:
    """Return what is exported of a run."""
    values = {name: plain(getattr(run, name)) for name in _EXPORTED}
    datasets = [plain(dataset) | {"uri": public_address(dataset.uri)} for dataset in run.datasets]
    return values | {"datasets": datasets}


def candidate_facts(
    model: str, run: RunRecord, candidates: Sequence[CandidateRecord], *, version: int
) -> list[dict[str, Any]]:
    """Return the fact of each candidate of a run, with as little of the run as identifies it.

    :param version: the version that the run made
    """
    whose = run_to_dict(RunRecord(dag_id=run.dag_id, run_id=run.run_id, actor=run.actor))
    return [
        {"model": model, "run": whose, "of_version": version, "candidate": plain(vars(each))} for each in candidates
    ]


def run_from_dict(fact: Mapping[str, Any]) -> RunRecord:
    """Return the run that ``run_to_dict`` wrote, with the fields that it wrote."""
    values: dict[str, Any] = {name: fact.get(name) for name in _EXPORTED}
    values |= {name: datetime.fromisoformat(fact[name]) for name in _TIMES if fact.get(name)}
    known = {field.name for field in fields(DatasetRecord)}
    return RunRecord(
        **values,
        datasets=tuple(
            DatasetRecord(**{name: value for name, value in dataset.items() if name in known})
            for dataset in fact["datasets"]
        ),
    )
