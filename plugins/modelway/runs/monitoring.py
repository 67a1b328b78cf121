"""One check of a served model: what its servers counted since the last one, what the rules say, what to request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from modelway.artifacts.store import ArtifactStore
from modelway.endpoints.base import Endpoint, ShowsSketches, predictor_name
from modelway.lineage.records.monitoring import (
    FAILED,
    Check,
    MonitorSlice,
    MonitorState,
    RetrainRequest,
    noted,
)
from modelway.monitor.compare import (
    DRIFT,
    QUALITY,
    STALENESS,
    VOLUME,
    Finding,
    find_drift,
    find_larger_error,
    find_limit,
    find_schema_change,
    find_worse_quality,
)
from modelway.monitor.decide import Decision, Past, decide, requested
from modelway.monitor.reference import Tally
from modelway.monitor.rules import DriftRule, Rules
from modelway.runs.monitor_answers import answering, unanswered
from modelway.runs.monitor_labels import LabelSource, add_new_labels
from modelway.runs.monitor_memory import Memory, count_new, remembered
from modelway.runs.traffic import stable_of

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

#: how far back a window may reach, for rows or labels that are few; what is older is removed
LONGEST = timedelta(days=35)
#: after which an event that started no run is sent again
_LOST = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A model that the monitor watches, and where it serves."""

    model: str
    endpoint: str
    target: str
    rules: Rules
    #: where labels come from besides ``modelway labels add``
    labels: LabelSource | None = None
    #: a run of its DAG is not over
    is_busy: bool = False
    #: the target's section, where it names the project or region of the endpoints
    platform: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What distinguishes where it serves: models of one place share a port."""
        return f"{self.target} {json.dumps(dict(self.platform), sort_keys=True)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        labels = self.labels.to_dict() if self.labels else None
        return {**vars(self), "rules": self.rules.to_dict(), "labels": labels}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Watched":
        """Read what :meth:`to_dict` returned."""
        labels = LabelSource.from_dict(data["labels"]) if data.get("labels") else None
        return cls(**{**data, "rules": Rules.from_dict(data["rules"]), "labels": labels})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found."""

    model: str
    #: for the task's log
    text: str
    #: the request whose event is to be sent
    request: RetrainRequest | None = None
    #: whether this check made that request, and did not only find that its event was lost
    is_new: bool = False
    #: None: nothing was compared
    version: int | None = None
    #: rows that the version answered since the last check
    rows: int = 0
    #: the strongest feature's effect in parts of its floor; None: undecided
    drift: float | None = None
    #: the share of right predictions among labelled ones, or their mean error; None: undecided
    quality: float | None = None
    error: float | None = None


def check_model(
    watched: Watched,
    *,
    store: "Lineage",
    port: Endpoint,
    artifacts: ArtifactStore,
    now: datetime,
) -> Checked:
    """Check a model once, and record what was found; what is requested is recorded with it, in one transaction.

    :raises ModelwayError: the endpoint or the lineage does not answer, or another check was faster
    """
    monitoring, name = store.monitoring, watched.endpoint
    with answering(store, watched.model, name, now):
        status = port.status(name)
    if status is None or status.stopped or (version := stable_of(status)) is None:
        return Checked(model=watched.model, text="nothing serves")
    before = monitoring.state(name) or MonitorState(endpoint=name, model=watched.model)
    if before.updated_at is not None:
        # The clocks of two workers may differ: time never goes back.
        now = max(now, before.updated_at + timedelta(microseconds=1))
    memory = remembered(before, version, now, store, artifacts, model=watched.model)
    # Without counts there are only rules that need none: lint refuses the others.
    with answering(store, watched.model, name, now):
        documents = port.sketches(name).get(predictor_name(version), ()) if isinstance(port, ShowsSketches) else ()
    # What servers counted before the version is watched may be of an earlier time that it served.
    is_first = before.state.get("version") != version
    tallies, rows, predictions = count_new(memory, documents, is_first=is_first)
    memory.rows += rows
    labels = ""
    if watched.labels is not None:
        memory.labels, labels = add_new_labels(watched.labels, memory.labels, store, model=watched.model)
    counted = _slice(name, memory, tallies, rows, now)
    findings = _findings(watched, memory, counted, store, now)
    past = [_past(each) for each in monitoring.requests(watched.model)]
    decision = decide(
        watched.rules, findings, alarms=memory.alarms, past=past, now=now.timestamp(), is_busy=watched.is_busy
    )
    request = _request(watched, version, decision.finding, now)
    memory.at = now.timestamp()
    note = {} if status.ready else noted(unanswered(status, now), before=before.state)

    def state(key: int | None) -> Mapping[str, Any]:
        memory.alarms = dict(decision.alarms if key is None else requested(decision, key))
        return {**memory.to_dict(), **note}

    numbers = {each.rule: {**each.numbers, "over": each.is_over, "undecided": each.is_undecided} for each in findings}
    slice_ = MonitorSlice(**{**vars(counted), "numbers": numbers})
    check = Check(
        before=before,
        at=now,
        counted=slice_,
        predictions=predictions,
        request=request,
        oldest=now - LONGEST,
    )
    key = monitoring.save_check(check, state=state)
    if key is not None and request is not None:
        request = RetrainRequest(**{**vars(request), "id": key})
    lost = None if request or watched.is_busy else _lost(store, watched.model, now)
    known = {each.rule: each.numbers for each in findings if not each.is_undecided}
    return Checked(
        model=watched.model,
        text=_text(version, rows, labels, findings, decision),
        request=request or lost,
        is_new=request is not None,
        version=version,
        rows=rows,
        drift=known.get(DRIFT, {}).get("strength"),
        quality=known.get(QUALITY, {}).get("share"),
        error=known.get(QUALITY, {}).get("error"),
    )


def _slice(endpoint: str, memory: Memory, tallies: Mapping[str, Tally], rows: int, now: datetime) -> MonitorSlice:
    return MonitorSlice(
        endpoint=endpoint,
        version=memory.version,
        begin=datetime.fromtimestamp(memory.at, UTC),
        end=now,
        rows=rows,
        tallies={key: tally.to_list() for key, tally in tallies.items()} if rows else {},
        numbers={},
    )


def _findings(
    watched: Watched, memory: Memory, counted: MonitorSlice, store: "Lineage", now: datetime
) -> list[Finding]:
    rules, reference, found = watched.rules, memory.reference, []
    if reference is None:
        text = f"version {memory.version} has no rows of its evaluation to compare with"
        found = [Finding(rule=rule, is_undecided=True, reason=text) for rule in (DRIFT, QUALITY) if vars(rules)[rule]]
    since = datetime.fromtimestamp(memory.since, UTC)
    if rules.drift is not None and reference is not None:
        window = _window(store, counted, rules.drift, since=since, now=now)
        if rules.drift.schema:
            found.append(find_schema_change(reference, window, rules.drift))
        found.append(find_drift(reference, window, rules.drift))
    if rules.quality is not None and reference is not None:
        begin = max(since, now - timedelta(seconds=rules.quality.window_seconds))
        about = (watched.model, memory.version)
        if reference.error is not None:
            found.append(find_larger_error(reference, *store.monitoring.errors(*about, since=begin), rules.quality))
        else:
            labelled, right = store.monitoring.labelled(*about, since=begin)
            found.append(find_worse_quality(reference, right, labelled, rules.quality))
    if rules.volume is not None:
        text = f"version {memory.version} has answered {memory.rows:,} rows"
        found.append(find_limit(VOLUME, memory.rows, rules.volume, text))
    if rules.staleness_seconds is not None:
        made = store.version(watched.model, memory.version).summary.created_at
        age = (now - made).total_seconds()
        text = f"version {memory.version} is {age / 86_400:.1f} days old"
        found.append(find_limit(STALENESS, age, rules.staleness_seconds, text))
    return found


def _window(
    store: "Lineage", counted: MonitorSlice, rule: DriftRule, *, since: datetime, now: datetime
) -> dict[str, Tally]:
    """Return the tallies of the rule's window; what is older is read only where its rows are too few."""
    found: dict[str, Tally] = {}
    for begin in (now - timedelta(seconds=rule.window_seconds), now - LONGEST):
        earlier = store.monitoring.slices(counted.endpoint, counted.version, since=max(since, begin))
        found = window_of([*earlier, counted], now=now, seconds=rule.window_seconds, rows=rule.minimum_rows)
        if begin <= since or max((tally.rows for tally in found.values()), default=0) >= rule.minimum_rows:
            break
    return found


def window_of(slices: Sequence[MonitorSlice], *, now: datetime, seconds: float, rows: int) -> dict[str, Tally]:
    """Return the tallies of the last ``seconds``, or of longer, until there are so many rows.

    A slice that began before belongs to the window whole: a monitor that was away for a day has one of a day.
    """
    found: dict[str, Tally] = {}
    begin = now - timedelta(seconds=seconds)
    for each in reversed(slices):
        if each.end <= begin and max((tally.rows for tally in found.values()), default=0) >= rows:
            break
        for key, tally in each.tallies.items():
            new = Tally.from_list(tally)
            found[key] = found[key].plus(new) if key in found else new
    return found


def _request(watched: Watched, version: int, finding: Finding | None, now: datetime) -> RetrainRequest | None:
    if finding is None:
        return None
    return RetrainRequest(
        model=watched.model,
        endpoint=watched.endpoint,
        version=version,
        at=now,
        rule=finding.rule,
        reason=f"{finding.reason} (version {version} at {watched.endpoint})",
        rebuild=finding.rebuilds,
        numbers=finding.numbers,
    )


def _past(request: RetrainRequest) -> Past:
    return Past(
        id=request.id,
        at=request.at.timestamp(),
        in_flight=request.outcome is None,
        failed=request.outcome == FAILED,
    )


def _lost(store: "Lineage", model: str, now: datetime) -> RetrainRequest | None:
    """Return a request whose event started no run, such as that of a task that was killed before it was sent."""
    for each in store.monitoring.requests(model):
        if each.outcome is None and each.run_id is None and now - (each.sent_at or each.at) > _LOST:
            return each
    return None


def _text(version: int, rows: int, labels: str, findings: Sequence[Finding], decision: Decision) -> str:
    texts = [f"version {version}: {rows:,} new rows", *([labels] if labels else ())]
    texts += [f"{each.rule}: {each.reason}" for each in findings if each.is_over]
    texts += [f"{each.rule} undecided: {each.reason}" for each in findings if each.is_undecided]
    if decision.finding is not None:
        texts.append("a retraining is requested")
    elif decision.waits:
        texts.append(f"nothing is requested: {decision.waits}")
    return "; ".join(texts)
