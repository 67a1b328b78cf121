"""How what serves is, by what is recorded of it: its traffic, its rollouts and the monitor's checks.

The pages connect to no endpoint. What nobody recorded is not known, and the words say so.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.records.monitoring import LastCheck
from modelway.lineage.records.readable import plural
from modelway.lineage.records.rollout import has_moved, is_finishing, is_returning, planned_share
from modelway.lineage.records.steering import HELD
from modelway.lineage.records.version import RolloutRecord

#: the words, what is most urgent first
Word = Literal[
    "stopped",
    "does not answer",
    "answers in part",
    "returning",
    "held",
    "waits for a person",
    "rolling out",
    "drifts",
    "does worse",
    "rolled back",
    "serves",
    "not watched",
    "does not serve",
]
#: the words of what needs nobody
GOOD = ("serves", "rolling out")
#: rules whose alarm says how the model is, and not how old it is
_ALARMS: tuple[tuple[str, Word], ...] = (("schema", "drifts"), ("drift", "drifts"), ("quality", "does worse"))
Places = Mapping[str, Sequence[ServingRecord]]


@dataclass(frozen=True, kw_only=True)
class Health:
    """One word for an endpoint of a model, with why."""

    model: str
    endpoint: str
    word: Word
    reason: str
    at: datetime | None
    """When it began or was found; None: the reason has no time."""
    seen: datetime | None
    """When the endpoint answered a check of the monitor last; None: no check is recorded."""


def by_model(shares: Sequence[ServingRecord]) -> dict[str, list[ServingRecord]]:
    """Return shares of traffic by the model that has them."""
    found: dict[str, list[ServingRecord]] = {}
    for each in shares:
        found.setdefault(each.model, []).append(each)
    return found


def endpoints_of(names: Collection[str], places: Places) -> set[str]:
    """Return the endpoints where models serve, and those that have the models' names: a rollout may have failed."""
    return {each.endpoint for name in names for each in places.get(name, ())}.union(names)


def health_by_model(
    names: Collection[str], places: Places, *, checks: Mapping[str, LastCheck], rollouts: Mapping[str, RolloutRecord]
) -> dict[str, list[Health]]:
    """Return the health of the endpoints of some models, by model.

    :param places: which versions serve where, by model
    :param checks: the last check of each endpoint
    :param rollouts: the newest rollout of each endpoint
    """
    found: dict[str, list[Health]] = {}
    for name in names:
        serving: dict[str, list[ServingRecord]] = {}
        for each in places.get(name, ()):
            serving.setdefault(each.endpoint, []).append(each)
        for endpoint in sorted(serving) or [name]:
            check, rollout = checks.get(endpoint), rollouts.get(endpoint)
            shown = _Endpoint(
                model=name,
                endpoint=endpoint,
                shares=tuple(serving.get(endpoint, ())),
                check=check if check is not None and check.model == name else None,
                rollout=rollout if rollout is not None and rollout.model == name else None,
            )
            found.setdefault(name, []).append(shown.health())
    return found


@dataclass(frozen=True, kw_only=True)
class _Endpoint:
    """What is recorded of an endpoint."""

    model: str
    endpoint: str
    shares: tuple[ServingRecord, ...]
    check: LastCheck | None
    rollout: RolloutRecord | None

    def health(self) -> Health:
        """Return the most urgent that is known."""
        word, reason, at = self._traffic() or self._monitored() or self._otherwise()
        check = self._check
        seen = None if check is None or check.version is None else check.at
        return Health(model=self.model, endpoint=self.endpoint, word=word, reason=reason, at=at, seen=seen)

    @property
    def _check(self) -> LastCheck | None:
        """The last check, where it found a version that serves now and that the user may read, or none at all."""
        known = {each.version for each in self.shares} | {None}
        return self.check if self.shares and self.check is not None and self.check.version in known else None

    def _traffic(self) -> tuple[Word, str, datetime | None] | None:
        stopped = next((each.stopped_at for each in self.shares if each.stopped_at), None)
        if stopped is not None:
            return "stopped", "somebody stopped the endpoint", stopped
        silent = None if self._check is None else self._check.unanswered
        if silent is not None:
            return "answers in part" if silent.in_part else "does not answer", silent.reason, silent.since
        if self.rollout is not None and is_returning(self.rollout):
            why = self.rollout.detail.get("reason", "")
            return (
                "returning",
                f"the traffic of v{self.rollout.version} is not back yet: {why}",
                self.rollout.updated_at,
            )
        if self.rollout is not None and self.rollout.state == "running":
            return _running(self.rollout)
        return None

    def _monitored(self) -> tuple[Word, str, datetime | None] | None:
        alarms = {} if self._check is None else self._check.alarms
        for rule, word in _ALARMS:
            if rule in alarms:
                return word, f"the rule {rule} is over its limit{self._requested()}", alarms[rule]
        return None

    def _otherwise(self) -> tuple[Word, str, datetime | None]:
        last = self.rollout
        if last is not None and last.state == "aborted" and has_moved(last):
            return (
                "rolled back",
                f"v{last.version}: {last.detail.get('reason') or 'no reason is recorded'}",
                last.updated_at,
            )
        if not self.shares:
            return "does not serve", "no version has traffic", None
        since = max(each.since for each in self.shares)
        if (check := self._check) is None or check.version is None:
            return "not watched", "has traffic, and no check of what serves is recorded", since
        rows = f"v{check.version} has answered {plural(check.rows, 'row')} since it is watched"
        return "serves", rows + self._requested(), since

    def _requested(self) -> str:
        requested = sorted(self._check.requested) if self._check is not None else []
        return f"; a retraining is requested ({', '.join(requested)})" if requested else ""


def _running(rollout: RolloutRecord) -> tuple[Word, str, datetime | None]:
    name, detail = f"v{rollout.version}", rollout.detail
    if held := detail.get(HELD):
        # A rollout that begins held has no time of its hold before its first step.
        seconds = float(held.get("since") or 0.0)
        since = datetime.fromtimestamp(seconds, UTC) if seconds else rollout.updated_at
        return "held", f"{name} at {planned_share(rollout)} % by {held['by']}: {held['reason']}", since
    if detail.get("waits_for"):
        return "waits for a person", f"{name} waits to be approved or rejected in Airflow", rollout.updated_at
    if is_finishing(rollout):
        return "rolling out", f"{name} takes over", rollout.updated_at
    if detail.get("moving") or rollout.step < 0:
        return "rolling out", f"the next move of traffic to {name} is pending", rollout.updated_at
    begun = detail.get("since")
    at = rollout.updated_at if begun is None else datetime.fromtimestamp(float(begun), UTC)
    return "rolling out", f"{name} at {planned_share(rollout)} %{_counted(rollout)}", at


def _counted(rollout: RolloutRecord) -> str:
    counts = rollout.detail.get("verdict", {}).get("numbers", {}).get("new", {})
    requests = int(counts.get("requests", 0))
    return f": {plural(requests, 'request')}, {counts.get('errors', 0) / requests:.1%} failed" if requests else ""
