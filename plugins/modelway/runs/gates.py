"""The gates that a model must pass before it is registered."""

from collections.abc import Mapping
from typing import Any

from modelway.errors import VerificationFailed
from modelway.names import nearest
from modelway.spec.gates import gate_of


def check_gates(*, gates: Mapping[str, Any], metrics: Mapping[str, float | None]) -> None:
    """Compare metrics with their gates.

    :raises VerificationFailed: a metric is missing, not finite or on the wrong side; all of them are named
    """
    missed = []
    for name, limit in gates.items():
        gate, value = gate_of(limit), metrics.get(name)
        if name not in metrics:
            near = nearest(name, metrics)
            meant = f", did you mean '{near}'?" if near else ""
            missed.append(f"evaluate returned no '{name}', only {', '.join(metrics) or 'nothing'}{meant}")
        elif value is None:
            missed.append(f"{name} has no finite value, must be {gate.op} {gate.limit:g}")
        elif not gate.passes(value):
            missed.append(f"{name} is {value:.6g}, must be {gate.op} {gate.limit:g}")
    if missed:
        raise VerificationFailed(
            f"the model misses {len(missed)} of {len(gates)} gates: {'; '.join(missed)}",
            do="Set verify.gates to metrics that evaluate returns and to what the model must reach, or train otherwise",
        )
