"""The gates that a model must pass before it is registered."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelway.errors import VerificationFailed
from modelway.names import nearest
from modelway.runs.comparison import Comparison, Measured, OtherVersion, compare
from modelway.spec.gates import Gate, VersionGate, gate_of


def check_gates(
    *,
    gates: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    candidate: Measured | None = None,
    others: Mapping[str, OtherVersion] | None = None,
    accept_worse: bool = False,
) -> list[Comparison]:
    """Compare metrics with their gates; return how those that compare with another version were passed.

    :param candidate: the metrics with what each row contributes to them, where that is known
    :param others: the versions to compare with, by how gates name them
    :param accept_worse: whether a comparison that is missed is returned, too; see :func:`worse_reason`
    :raises VerificationFailed: a metric is missing, not finite or on the wrong side; all of them are named
    """
    missed, passed = [], []
    for name, limit in gates.items():
        gate, value = gate_of(limit), metrics.get(name)
        if name not in metrics:
            near = nearest(name, metrics)
            meant = f", did you mean '{near}'?" if near else ""
            missed.append(f"evaluate returned no '{name}', only {', '.join(metrics) or 'nothing'}{meant}")
        elif value is None:
            missed.append(f"{name} has no finite value, must be {_shown(gate)}")
        elif isinstance(gate, Gate):
            if not gate.passes(value):
                missed.append(f"{name} is {value:.6g}, must be {_shown(gate)}")
        else:
            if (other := (others or {}).get(gate.version)) is None:
                missed.append(f"{name} must be {gate}, and no task evaluated {gate.version}")
                continue
            found = compare(name, gate, candidate=candidate or Measured(metrics=metrics), other=other)
            passed.append(found)
            if not found.passes and not accept_worse:
                missed.append(_missed(found, other))
    if missed:
        raise VerificationFailed(
            f"the model misses {len(missed)} of {len(gates)} gates: {'; '.join(missed)}",
            do="Set verify.gates to metrics that evaluate returns and to what the model must reach, or train otherwise",
        )
    return passed


def worse_reason(comparisons: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why a version that was registered all the same moves neither alias nor traffic; None where it may.

    :param comparisons: those of its verification, as the record has them
    """
    missed = [each for each in comparisons if not each["passes"]]
    if not missed:
        return None
    each = missed[0]
    return (
        f"{each['metric']} is {each['value']:.6g}, that of {each['reference']} (v{each['version']}) is "
        f"{each['other']:.6g}, must be {each['gate']}: the version is registered and not rolled out"
    )


def _shown(gate: Gate | VersionGate) -> str:
    return f"{gate.op} {gate.limit:g}" if isinstance(gate, Gate) else str(gate)


def _missed(found: Comparison, other: OtherVersion) -> str:
    """Return by how much a comparison misses its gate."""
    text = f"{found.metric} is {found.value:.6g}, that of {other} {found.other:.6g}, must be {found.gate}"
    if found.low is None or found.high is None:
        return f"{text} ({found.method})"
    side = f"at least {found.low:+.4g}" if found.gate[0] == ">" else f"at most {found.high:+.4g}"
    rows = "" if found.rows is None else f", on {found.rows:,} rows"
    needed = "" if found.rows_needed is None else f"; about {found.rows_needed:,} rows could show that it is enough"
    return (
        f"{text}: the difference {found.difference:+.4g} is {side} with {found.confidence:.0%} confidence{rows}{needed}"
    )
