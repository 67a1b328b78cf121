"""The summary of a run: what was made, where it is, and what serves it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from modelway.lineage.records.readable import number_text
from modelway.lineage.records.rollout import evidence_text, step_text
from modelway.lineage.records.verification import verified_text

#: (task id, XCom key) → value or None
Xcom = Callable[[str, str], Any]


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What the summary shows besides the run's own results."""

    prediction: str | None = None
    split: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    """percentage of the new version → answers counted by version"""
    links: Mapping[str, str] = field(default_factory=dict)


def print_summary(console: Console, *, xcom: Xcom, extras: Extras) -> None:
    """Print the summary of a run that succeeded."""
    version = xcom("freeze.register", "return_value")
    console.print(f"\n[bold]{version['model']} version {version['version']}[/]", highlight=False)
    for name, text in _rows(xcom, version, extras):
        # Never folded here: a digest or a link must stay in one piece to be copied.
        console.print(f"  {name:<14} {text}", markup=False, highlight=False, soft_wrap=True)


def _rows(xcom: Xcom, version: Mapping[str, Any], extras: Extras) -> list[tuple[str, str]]:
    code = xcom("package", "return_value")
    image = xcom("serve.build_image", "return_value")
    commit = code["commit"]["commit"]
    origin = f"commit {commit[:12]}{' and changes' if code['commit']['dirty'] else ''}" if commit else "not in git"
    rows = [
        *_selected(xcom),
        ("code", f"{code['digest']} ({origin})"),
        ("model", version["model_digest"]),
        ("archive", f"{version['archive']['digest']} ({version['archive']['size']:,} bytes)"),
        *_verified(xcom),
        ("image", f"{image['reference']} ({image['tag']})"),
        ("endpoint", _endpoint(xcom, version)),
    ]
    if extras.prediction:
        rows.append(("prediction", extras.prediction))
    for weight, counts in sorted(extras.split.items()):
        rows.append((f"split at {weight} %", _split(counts)))
    return [*rows, *_judged(xcom), *extras.links.items()]


def _judged(xcom: Xcom) -> Iterator[tuple[str, str]]:
    """Yield what was found in each step in which the version could be compared with another one."""
    served = xcom("serve.promote", "return_value") or {}
    for step in served.get("steps", ()):
        if evidence := step.get("tests"):
            own, *others = sorted(step["counts"], key=lambda number: number != str(served["version"]))
            found = step_text(step, version=int(own), stable=int(others[0]) if others else None)
            counts = f"{found.new}" + (f" (version {others[0]}: {found.stable})" if others else "")
            yield f"judged at {step['weight']} %", f"{counts}; evidence {evidence_text(evidence)}: {step['action']}"


def _selected(xcom: Xcom) -> list[tuple[str, str]]:
    """Return what the version came from: the selection, or the version that was reused in place of training."""
    if (selected := xcom("evaluate.select", "return_value")) is None:
        return [("reused", xcom("plan", "return_value")["plan"]["reuse_reason"])]
    metrics = ", ".join(
        f"{name} {number_text(value, none='not finite')}" for name, value in selected["metrics"].items()
    )
    rows = [("checkpoint", f"{selected['checkpoint']['id']} ({selected['rule']})"), ("metrics", metrics)]
    if sweep := xcom("evaluate.select", "sweep"):
        rows.append(("candidates", _candidates(sweep)))
    return rows


def _candidates(sweep: Mapping[str, Any]) -> str:
    """Return what became of the candidates of a sweep."""
    states = [each["state"] for each in sweep["candidates"] if each["state"] != "selected"]
    others = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    chosen = next(each["params"] for each in sweep["candidates"] if each["id"] == sweep["selected"])
    values = " ".join(
        f"{name}={number_text(value) if isinstance(value, float) else value}" for name, value in chosen.items()
    )
    return f"{sweep['selected']} of {len(sweep['candidates'])} ({values})" + (f"; {others}" if others else "")


def _verified(xcom: Xcom) -> list[tuple[str, str]]:
    if (verified := xcom("freeze.verify", "return_value")) is None:
        return []
    return [("verified", verified_text(verified))]


def _endpoint(xcom: Xcom, version: Mapping[str, Any]) -> str:
    if (served := xcom("serve.promote", "return_value")) is None:
        return f"as it was: {version['blocked_reason']}"
    weights = ", ".join(f"version {number} {weight} %" for number, weight in served["weights"].items())
    return f"{served['url']}/v2/models/{version['model']}/infer ({weights})"


def _split(counts: Mapping[int, int]) -> str:
    total = sum(counts.values())
    parts = [f"version {number}: {count} ({count / total:.1%})" for number, count in sorted(counts.items())]
    return f"{', '.join(parts)} of {total} answers"


def print_failure(console: Console, *, failures: Mapping[str, str]) -> None:
    """Print why a run failed: each failed task with its reason."""
    console.print()
    for task, reason in failures.items():
        console.print(f"[bold red]{task} failed[/]")
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
