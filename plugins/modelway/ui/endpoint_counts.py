"""What was counted of each version at an endpoint over time: in the steps of its rollouts, and by the monitor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from modelway.lineage.records.monitoring import MonitorSlice
from modelway.lineage.records.rollout import is_in_step, planned_share, results_of
from modelway.lineage.records.version import RolloutRecord
from modelway.ui.charts.history import values_over_time


@dataclass(frozen=True, kw_only=True)
class CountedStep:
    """What one version answered in one step of a rollout."""

    version: int
    weight: int
    """Its per cent of the traffic."""
    since: datetime | None
    """When the step began; None: an earlier modelway did not record that."""
    requests: int
    errors: int
    invalid: int
    slow: int | None
    """Answers that took longer than ``slow_seconds``, from the rollout's begin on; None: times were not compared."""
    timed: int | None
    """The answers whose time was measured, from the rollout's begin on."""
    slow_seconds: float | None

    @property
    def failed(self) -> float | None:
        """The share of the requests that failed, in per cent; None without requests."""
        return 100 * self.errors / self.requests if self.requests else None


def counted_steps(rollouts: Sequence[RolloutRecord]) -> list[CountedStep]:
    """Return what was counted in the steps of rollouts, the last step first, of each the new version first."""
    found: list[CountedStep] = []
    for rollout in rollouts:
        results = [*results_of(rollout), *_present(rollout)]
        for result in reversed(results):
            found += _versions_of(rollout, result)
    return found


def requests_over_time(steps: Sequence[CountedStep]) -> Markup:
    """Return the requests of each version in each step."""
    return _drawn(steps, lambda step: float(step.requests), title="Requests of each step", y_label="requests")


def errors_over_time(steps: Sequence[CountedStep]) -> Markup:
    """Return the share of each version's requests that failed, by step."""
    return _drawn(steps, lambda step: step.failed, title="Failed requests of each step", y_label="per cent")


def rows_over_time(checks: Sequence[MonitorSlice]) -> Markup:
    """Return the rows that each version answered between two checks of the monitor."""
    points: dict[str, list[tuple[datetime, float]]] = {}
    for check in checks:
        points.setdefault(f"v{check.version}", []).append((check.end, float(check.rows)))
    return values_over_time(points, title="Rows between two checks", y_label="rows")


def _drawn(
    steps: Sequence[CountedStep], value_of: Callable[[CountedStep], float | None], *, title: str, y_label: str
) -> Markup:
    points: dict[str, list[tuple[datetime, float]]] = {}
    for since, step in sorted(((step.since, step) for step in steps if step.since is not None), key=itemgetter(0)):
        if (value := value_of(step)) is not None:
            points.setdefault(f"v{step.version}", []).append((since, value))
    return values_over_time(points, title=title, y_label=y_label)


def _present(rollout: RolloutRecord) -> list[Mapping[str, Any]]:
    """Return the step that runs, as far as it is counted."""
    evidence, detail = rollout.detail.get("evidence"), rollout.detail
    if not evidence or not is_in_step(rollout):
        return []
    counts = {str(rollout.version): evidence.get("canary_step", {})}
    if detail.get("stable") is not None:
        counts[str(detail["stable"])] = evidence.get("stable_step", {})
    slow = detail.get("verdict", {}).get("numbers", {}).get("slow")
    return [{"weight": planned_share(rollout), "counts": counts, "since": detail.get("since"), "slow": slow}]


def _versions_of(rollout: RolloutRecord, result: Mapping[str, Any]) -> list[CountedStep]:
    weight, since, slow = int(result["weight"]), result.get("since"), result.get("slow") or {}
    shares = ((str(rollout.version), "new", weight), (str(rollout.detail.get("stable")), "stable", 100 - weight))
    found = []
    for version, role, share in shares:
        counts = result.get("counts", {}).get(version)
        if not counts:
            continue
        above, timed = slow.get(role, (None, None))
        found.append(
            CountedStep(
                version=int(version),
                weight=share,
                since=None if since is None else datetime.fromtimestamp(float(since), UTC),
                requests=int(counts.get("requests", 0)),
                errors=int(counts.get("errors", 0)),
                invalid=int(counts.get("invalid", 0)),
                slow=above,
                timed=timed,
                slow_seconds=slow.get("above_seconds"),
            )
        )
    return found
