"""Select the checkpoint that becomes the model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.errors import ModelwayError, NothingToSelect
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.mapped import flat, flat_checkpoints
from modelway.spec.gates import Gate, parse_gate
from modelway.spec.problems import Refusal


class SelectCheckpointOperator(ModelwayOperator):
    """Select the checkpoint with the least value of a metric, or the greatest, among those within the constraints.

    NaN and infinite values are never selected and within no constraint; a checkpoint without an evaluation is left out;
    of equal values the earliest checkpoint wins, since it trained least. Each checkpoint that is left out is told with
    its reason.

    :param checkpoints: the checkpoints that were to be evaluated, in order, also of several trainings
    :param evaluations: what EvaluateCheckpointOperator returned for them; failed ones may be missing
    :param metric: the metric's name
    :param mode: ``min`` or ``max``
    :param constraints: limits of other metrics by their names: ``{"accuracy": ">= 0.9", "latency_ms": "<= 20"}``

    Returns ``{checkpoint, metrics, metric, rule, evaluations}``, where an evaluation is
    ``{checkpoint, stage, step, digest, metrics, not_finite, seconds, startup_seconds}`` and, for one that cannot be
    selected, ``left_out``. Where they are known there are also ``cost``, of all evaluations together, and ``report``,
    where the charts of the selected one are, and ``rows``, where the rows are that its evaluation recorded.
    """

    template_fields: Sequence[str] = ("checkpoints", "evaluations", "metric", "mode", "constraints")
    accepts: ClassVar[Checks] = {
        "checkpoints": checks.CHECKPOINTS,
        "evaluations": checks.EVALUATIONS,
        "metric": checks.METRIC,
        "mode": checks.MODE,
        "constraints": checks.CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        checkpoints: Any,
        evaluations: Any,
        metric: str = "loss",
        mode: str = "min",
        constraints: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checkpoints = checkpoints
        self.evaluations = evaluations
        self.metric = metric
        self.mode = mode
        self.constraints = constraints
        self.check_arguments()

    def run(self, context: Context) -> dict[str, Any]:
        """Select the checkpoint."""
        selected = select_checkpoint(
            checkpoints=flat_checkpoints(self.checkpoints),
            evaluations=flat(self.evaluations),
            metric=self.metric,
            mode=self.mode,
            constraints=self.constraints,
        )
        for evaluation in selected["evaluations"]:
            if "left_out" in evaluation:
                self.log.warning("checkpoint %s is left out: %s", evaluation["checkpoint"], evaluation["left_out"])
        self.log.info("%s: %s with %s", selected["rule"], selected["checkpoint"]["id"], selected["metrics"])
        return selected


def select_checkpoint(
    *,
    checkpoints: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Any],
    metric: str,
    mode: str,
    constraints: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the selection, see the operator.

    :raises NothingToSelect: no checkpoint has a finite value of the metric within the constraints, or the mode is none
    :raises ModelwayError: a constraint is no comparison with a number
    """
    if mode not in ("min", "max"):
        raise NothingToSelect(f"'{mode}' is not a mode", known=("max", "min"), given=mode)
    limits = _limits(constraints or {})
    by_id = {evaluation["checkpoint"]: evaluation for evaluation in flat(evaluations)}
    told = [_told(checkpoint, by_id.get(checkpoint["id"]), metric, limits) for checkpoint in checkpoints]
    # Of equal values min() keeps the first: the earliest checkpoint.
    sign = 1.0 if mode == "min" else -1.0
    usable = [
        (checkpoint, entry) for checkpoint, entry in zip(checkpoints, told, strict=True) if "left_out" not in entry
    ]
    if not usable:
        raise _nothing(metric, told, limits)
    best, entry = min(usable, key=lambda pair: sign * pair[1]["metrics"][metric])
    within = f" with {_shown(limits)}" if limits else ""
    return {
        "checkpoint": dict(best),
        "metrics": entry["metrics"],
        "metric": metric,
        "rule": f"{'least' if mode == 'min' else 'greatest'} {metric} of {len(checkpoints)} checkpoints{within}",
        "evaluations": told,
        **_reports(by_id.get(best["id"]) or {}, by_id.values()),
    }


def _reports(chosen: Mapping[str, Any], evaluations: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all evaluations cost, and where the chosen one's charts are."""
    costs = [evaluation["cost"] for evaluation in evaluations if evaluation.get("cost")]
    found: dict[str, Any] = {}
    if costs:
        found["cost"] = {
            **{name: _sum(cost.get(name) for cost in costs) for name in ("seconds", "cpu_seconds")},
            "gpu": costs[0].get("gpu"),
            "backend": costs[0].get("backend"),
            "peak_memory_bytes": max((cost.get("peak_memory_bytes") or 0 for cost in costs), default=0) or None,
        }
    return found | {name: chosen[name] for name in ("report", "rows") if chosen.get(name)}


def _sum(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return round(sum(known), 3) if known else None


def _limits(constraints: Mapping[str, str]) -> dict[str, Gate]:
    limits = {}
    for name, text in constraints.items():
        try:
            limits[name] = parse_gate(text)
        except Refusal as refusal:
            raise ModelwayError(f"the constraint of {name}: {refusal}", do=refusal.do) from None
    return limits


def _shown(limits: Mapping[str, Gate]) -> str:
    return ", ".join(f"{name} {gate}" for name, gate in limits.items())


def _told(
    checkpoint: Mapping[str, Any], evaluation: Mapping[str, Any] | None, metric: str, limits: Mapping[str, Gate]
) -> dict[str, Any]:
    """Return what becomes of a checkpoint: its evaluation, and why it is left out if it is."""
    given = evaluation or {}
    entry: dict[str, Any] = {
        "checkpoint": checkpoint["id"],
        **{key: checkpoint.get(key) for key in ("stage", "step", "digest")},
        "metrics": given.get("metrics", {}),
        "not_finite": given.get("not_finite", {}),
        **{key: given.get(key) for key in ("seconds", "startup_seconds")},
    }
    problem = _unusable(evaluation, metric, limits)
    return entry | {"left_out": problem} if problem else entry


def _unusable(evaluation: Mapping[str, Any] | None, metric: str, limits: Mapping[str, Gate]) -> str | None:
    """Return why a checkpoint cannot be selected, or ``None`` when it can."""
    if evaluation is None:
        return "its evaluation failed"
    if "error" in evaluation:
        return f"its evaluation failed: {evaluation['error']}"
    metrics = evaluation["metrics"]
    for name in dict.fromkeys((metric, *limits)):
        if name not in metrics:
            return f"evaluate returned no '{name}', only {', '.join(metrics)}"
        if metrics[name] is None:
            return f"its {name} is not a finite number"
    broken = {name: gate for name, gate in limits.items() if not gate.passes(metrics[name])}
    return " and ".join(f"its {name} is {metrics[name]:.6g}, not {gate}" for name, gate in broken.items()) or None


def _nothing(metric: str, told: Sequence[Mapping[str, Any]], limits: Mapping[str, Gate]) -> NothingToSelect:
    reasons = "; ".join(f"{entry['checkpoint']}: {entry['left_out']}" for entry in told) or "there are no checkpoints"
    within = f" with {_shown(limits)}" if limits else ""
    loosen = ", loosen select.constraints" if limits else ""
    return NothingToSelect(
        f"no checkpoint can be selected by {metric}{within}: {reasons}",
        do="Look for a diverging loss (lower the learning rate, check the data)"
        f"{loosen}, or set select.metric to a metric that evaluate returns",
    )
