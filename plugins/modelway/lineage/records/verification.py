"""What a version was verified on: the mark that is shown beside each version."""

import math
from collections.abc import Mapping
from typing import Any

#: the mark of a version that was compared with its checkpoint on example rows alone
EXAMPLES_ONLY = "on example rows alone"
UNKNOWN = "not known what it was verified on"


def verified_mark(verification: Mapping[str, Any] | None) -> str:
    """Return the mark of a version: on how many real rows it was verified, or that it was on none.

    :param verification: what VerifyModelOperator returned, as the version's record has it; None: it has none
    """
    if verification is None:
        return UNKNOWN
    rows = int(verification.get("rows") or 0)
    return f"served = evaluated on {rows:,} {'row' if rows == 1 else 'rows'}" if rows else EXAMPLES_ONLY


def verified_text(verification: Mapping[str, Any] | None) -> str:
    """Return the mark, the metric that was computed again, and whether requests are joined."""
    if verification is None:
        return UNKNOWN
    parts = [verified_mark(verification)]
    rows, rows_of = verification.get("rows"), verification.get("rows_of")
    if rows and rows_of and rows_of != rows:
        parts.append(f"of {rows_of:,} that were evaluated")
    if metric := verification.get("metric"):
        parts.append(f"{metric['name']} {metric['served']:.4g} (evaluated {metric['evaluated']:.4g})")
        returned = metric.get("returned")
        if returned is not None and not math.isclose(returned, metric["evaluated"], rel_tol=0.01, abs_tol=1e-6):
            parts.append(f"evaluate returned {returned:.4g} on its own rows")
    if (largest := verification.get("max_abs_difference")) is not None:
        parts.append(f"differs by at most {largest:.1e}")
    parts += [comparison_text(each) for each in verification.get("comparisons") or ()]
    if verification.get("batches") is False:
        parts.append(f"requests are not joined: {verification.get('batches_reason')}")
    return ", ".join(parts)


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Return how a version compares with another one in a metric, as its record has it.

    :param comparison: see ``modelway.runs.comparison.Comparison``
    """
    metric, reference, version = (comparison[key] for key in ("metric", "reference", "version"))
    if version is None:
        return f"{metric} {comparison['gate']}: {comparison['method']}"
    named = reference if reference == f"v{version}" else f"{reference} (v{version})"
    text = f"{metric} {comparison['value']:.4g} against {comparison['other']:.4g} of {named}"
    if comparison.get("low") is None:
        return f"{text}, {comparison['method']}"
    low, high = f"{comparison['low']:+.4g}", f"{comparison['high']:+.4g}"
    rows = "" if comparison.get("rows") is None else f" on {comparison['rows']:,} rows"
    return f"{text}: {comparison['difference']:+.4g}, between {low} and {high}{rows} ({comparison['method']})"


def is_on_examples_alone(verification: Mapping[str, Any] | None) -> bool:
    """Whether it is known that no real row was compared."""
    return verification is not None and not verification.get("rows")
