"""How far a rollout is, and what was found in its steps, as commands, pages and the summary of a run show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelway.lineage.records.readable import plural

# A DAG file imports this module, and needs none of the records.
if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord


@dataclass(frozen=True, kw_only=True)
class StepText:
    """One step in a few texts."""

    weight: str
    new: str
    """requests to the new version and how many failed"""
    stable: str
    evidence: str
    """of each test, the e-value and the one that rolls back"""
    result: str


def has_moved(record: "RolloutRecord") -> bool:
    """Return whether the rollout may have moved traffic."""
    return record.step >= 0 or bool(record.detail.get("moving"))


def is_finishing(record: "RolloutRecord") -> bool:
    """Return whether the version has passed all steps and is taking over: nothing aborts that any more."""
    return record.state == "running" and "finishing" in record.detail


def is_returning(record: "RolloutRecord") -> bool:
    """Return whether the rollout is closed and its traffic is not back yet."""
    return record.state == "aborted" and bool(record.detail.get("returning"))


def planned_share(record: "RolloutRecord") -> int:
    """Return the per cent that the version gets by its plan; 0 before its first step."""
    plan = record.detail.get("plan", ())
    return int(plan[record.step]["weight"]) if 0 <= record.step < len(plan) else 0


def is_in_step(record: "RolloutRecord") -> bool:
    """Return whether a step of the rollout runs, and its traffic is not being moved."""
    is_between = bool({"moving", "finishing"} & record.detail.keys())
    return record.state == "running" and not is_between and 0 <= record.step < len(record.detail.get("plan", ()))


def results_of(record: "RolloutRecord") -> list[dict[str, Any]]:
    """Return what was found in each step; a rollout that an earlier modelway started has them under ``told``."""
    results: list[dict[str, Any]] = record.detail.get("results", record.detail.get("told", []))
    return results


def step_texts(record: "RolloutRecord") -> list[StepText]:
    """Return the steps of a rollout, the present one included; one of an earlier modelway has counts alone."""
    stable = record.detail.get("stable")
    found = [step_text(result, version=record.version, stable=stable) for result in results_of(record)]
    verdict = record.detail.get("verdict")
    if verdict and is_in_step(record):
        numbers = verdict.get("numbers", {})
        counts = {str(record.version): numbers.get("new", {}), str(stable): numbers.get("stable", {})}
        present = {"weight": planned_share(record), "counts": counts, "tests": numbers.get("tests", {})}
        found.append(step_text({**present, **verdict}, version=record.version, stable=stable))
    return found


def step_text(result: Mapping[str, Any], *, version: int, stable: int | None) -> StepText:
    """Return what one step found."""
    counts = result.get("counts", {})
    action, reason = result.get("action", ""), result.get("reason", "")
    return StepText(
        weight=f"{result['weight']} %",
        new=_counted(counts.get(str(version))),
        stable=_counted(counts.get(str(stable))),
        evidence=evidence_text(result.get("tests", {})),
        result=f"{action}: {reason}" if action and reason else action or "-",
    )


def evidence_text(tests: Mapping[str, Mapping[str, float]]) -> str:
    """Return the evidence against a version: of each test, the e-value and the one that rolls back."""
    values = (f"{name} {_small(each['e'])} of {each['limit']:.4g}" for name, each in tests.items())
    return ", ".join(values) or "-"


def _counted(counts: Mapping[str, int] | None) -> str:
    if not counts:
        return "-"
    invalid = f", {counts['invalid']:,} invalid" if counts.get("invalid") else ""
    return f"{plural(counts.get('requests', 0), 'request')}, {counts.get('errors', 0):,} failed{invalid}"


def _small(e_value: float) -> str:
    return f"{e_value:.3g}" if e_value >= 0.001 else "<0.001"
