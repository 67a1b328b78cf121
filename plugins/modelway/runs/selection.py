"""Which checkpoint becomes the model."""

from collections.abc import Iterable, Mapping, Sequence

from modelway.errors import ModelwayError, NothingToSelect
from modelway.fields.refusal import Refusal
from modelway.runs.messages.checkpoints import Checkpoint, JobCost
from modelway.runs.messages.evaluation import ConsideredCheckpoint, Evaluation, FailedEvaluation, Selection
from modelway.spec.gates import Gate, parse_gate

Result = Evaluation | FailedEvaluation


def select_checkpoint(
    *,
    checkpoints: Sequence[Checkpoint],
    evaluations: Sequence[Result],
    metric: str,
    mode: str,
    constraints: Mapping[str, str] | None = None,
) -> Selection:
    """Return the checkpoint with the least value of a metric, or the greatest, among those within the constraints.

    :param mode: ``min`` or ``max``
    :param constraints: limits of other metrics by their names
    :raises NothingToSelect: no checkpoint has a finite value of the metric within the constraints, or an unknown mode
    :raises ModelwayError: a constraint is not a comparison with a number
    """
    if mode not in ("min", "max"):
        raise NothingToSelect(f"'{mode}' is not a mode", known=("max", "min"), given=mode)
    limits = limits_of(constraints or {})
    results = by_checkpoint(evaluations)
    considered = [_considered(checkpoint, results.get(checkpoint.id), metric, limits) for checkpoint in checkpoints]
    # Of equal values min() returns the first: the earliest checkpoint.
    sign = 1.0 if mode == "min" else -1.0
    usable = [
        (sign * value, checkpoint, one)
        for checkpoint, one in zip(checkpoints, considered, strict=True)
        if one.left_out is None and (value := one.metrics[metric]) is not None
    ]
    if not usable:
        raise _nothing(metric, considered, limits)
    _, best, one = min(usable, key=lambda known: known[0])
    within = f" with {_shown(limits)}" if limits else ""
    chosen = results[best.id]
    return Selection(
        checkpoint=best,
        metrics=one.metrics,
        metric=metric,
        rule=f"{'least' if mode == 'min' else 'greatest'} {metric} of {len(checkpoints)} checkpoints{within}",
        evaluations=tuple(considered),
        cost=_total_cost(results.values()),
        report=chosen.report if isinstance(chosen, Evaluation) else None,
        rows=chosen.rows if isinstance(chosen, Evaluation) else None,
        row_metrics=chosen.row_metrics if isinstance(chosen, Evaluation) else None,
    )


def by_checkpoint(evaluations: Iterable[Result]) -> dict[str, Result]:
    """Return evaluations by the checkpoint's id: of one id the first.

    Of a cleared run that has fewer jobs than before Airflow still gives what the others returned, after all others.
    """
    found: dict[str, Result] = {}
    for each in evaluations:
        found.setdefault(each.checkpoint, each)
    return found


def _total_cost(results: Iterable[Result]) -> JobCost | None:
    """Return the cost of all evaluations together, None where it is not known."""
    costs = [each.cost for each in results if isinstance(each, Evaluation) and each.cost]
    if not costs:
        return None
    return JobCost(
        seconds=known_sum(cost.seconds for cost in costs),
        cpu_seconds=known_sum(cost.cpu_seconds for cost in costs),
        gpu=costs[0].gpu,
        backend=costs[0].backend,
        peak_memory_bytes=max(cost.peak_memory_bytes or 0 for cost in costs) or None,
    )


def known_sum(numbers: Iterable[float | None]) -> float | None:
    """Return the sum of the numbers that are known, to a thousandth; None where none is."""
    known = [number for number in numbers if number is not None]
    return round(sum(known), 3) if known else None


def limits_of(constraints: Mapping[str, str]) -> dict[str, Gate]:
    """Return constraints as gates, by the metric.

    :raises ModelwayError: one is not a comparison with a number
    """
    limits = {}
    for name, text in constraints.items():
        try:
            limits[name] = parse_gate(text)
        except Refusal as refusal:
            raise ModelwayError(f"the constraint of {name}: {refusal}", do=refusal.do) from None
    return limits


def _shown(limits: Mapping[str, Gate]) -> str:
    return ", ".join(f"{name} {gate}" for name, gate in limits.items())


def _considered(
    checkpoint: Checkpoint, result: Result | None, metric: str, limits: Mapping[str, Gate]
) -> ConsideredCheckpoint:
    """Return a checkpoint's evaluation, and why the checkpoint is left out if it is."""
    evaluation = result if isinstance(result, Evaluation) else None
    return ConsideredCheckpoint(
        checkpoint=checkpoint.id,
        stage=checkpoint.stage,
        step=checkpoint.step,
        digest=checkpoint.digest,
        metrics=evaluation.metrics if evaluation else {},
        not_finite=evaluation.not_finite if evaluation else {},
        seconds=evaluation.seconds if evaluation else None,
        startup_seconds=evaluation.startup_seconds if evaluation else None,
        left_out=unusable_reason(result, metric, limits),
    )


def unusable_reason(result: Result | None, metric: str, limits: Mapping[str, Gate]) -> str | None:
    """Return why a checkpoint cannot be selected, None when it can."""
    if result is None:
        return "its evaluation failed"
    if isinstance(result, FailedEvaluation):
        return f"its evaluation failed: {result.error}"
    values: dict[str, float] = {}
    for name in dict.fromkeys((metric, *limits)):
        if name not in result.metrics:
            return f"evaluate returned no '{name}', only {', '.join(result.metrics)}"
        if (value := result.metrics[name]) is None:
            return f"its {name} is not a finite number"
        values[name] = value
    broken = {name: gate for name, gate in limits.items() if not gate.passes(values[name])}
    return " and ".join(f"its {name} is {values[name]:.6g}, not {gate}" for name, gate in broken.items()) or None


def _nothing(metric: str, considered: Sequence[ConsideredCheckpoint], limits: Mapping[str, Gate]) -> NothingToSelect:
    reasons = "; ".join(f"{one.checkpoint}: {one.left_out}" for one in considered) or "there are no checkpoints"
    within = f" with {_shown(limits)}" if limits else ""
    loosen = ", loosen select.constraints" if limits else ""
    return NothingToSelect(
        f"no checkpoint can be selected by {metric}{within}: {reasons}",
        do="Look for a diverging loss (lower the learning rate, check the data)"
        f"{loosen}, or set select.metric to a metric that evaluate returns",
    )
