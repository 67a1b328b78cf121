"""The record of a rollout: its plan, the step it is at, what was found in each step; pure, as the lineage stores it.

``detail`` of the record has: ``stable`` (the version before, None where there is none), ``target``, ``plan`` (the
steps), ``analysis`` (how they are judged), ``since`` (when the step began), ``moving`` (while a step begins),
``restarts`` (of the version's servers before the step), ``evidence``, ``verdict`` (of the last look), ``results`` (one
per finished step), ``reason`` (of an abort), ``already_served`` (whether the version served before the run).
``finishing`` has the alias that moves, once the version takes over: from then on the rollout only goes forward.
``waits_since`` is when a person was asked, until the answer: that time is none of the step.
``held`` and ``leaves`` are what a person did to the step: ``modelway.lineage.records.steering``; ``begun_by`` says who
began the rollout at a share of its own (``runs.steered.Held``).
``returning`` is set from an abort until the traffic is back, with ``withdraw`` where the version is stopped as well.
Rollouts that an earlier modelway began have some of them only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import EndpointStatus, PredictorMetrics, predictor_name
from modelway.endpoints.judge import Analysis, Evidence, Observation, Step, Verdict, begin, decide, update
from modelway.errors import RolloutAborted
from modelway.lineage.records.rollout import has_moved, results_of
from modelway.lineage.records.steering import HELD, LEAVES, held_since
from modelway.runs.steered import Held, as_a_person_wants
from modelway.runs.traffic import deployed
from modelway.spec.rollout import AnalysisSection, StepSection

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord

Metrics = Mapping[str, PredictorMetrics]
#: see ``waits_since`` above
WAITS_SINCE = "waits_since"
#: a version whose servers are not ready for so long is rolled back; a busy machine's are late now and then
UNREADY_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a rollout, as the spec's section or an operator's arguments have them."""

    steps: Sequence[int | Mapping[str, Any]] = (100,)
    interval_seconds: int = 10
    minimum_requests: int = 100
    analysis: Mapping[str, Any] | None = None
    held: Held | None = None

    def plan(self) -> list[Step]:
        """Return the steps with what each leaves out."""
        return [self._step(step) for step in self.steps]

    def _step(self, given: int | Mapping[str, Any]) -> Step:
        # A value from a template is text.
        values = dict(given) if isinstance(given, Mapping) else {"weight": given}
        found = StepSection.model_validate(values, strict=False)
        hold = self.interval_seconds if found.hold_seconds is None else found.hold_seconds
        # At 100 % nothing is left to compare with, so there is nothing to wait for.
        least = self.minimum_requests if found.weight < 100 else 0
        return Step(
            weight=found.weight, hold_seconds=hold, requests=least if found.requests is None else found.requests
        )

    def judged_by(self) -> Analysis:
        """Return what the version is judged by."""
        section = AnalysisSection.model_validate(dict(self.analysis or {}), strict=False)
        values = section.model_dump(mode="python", exclude={"latency"})
        return Analysis(**values | ({} if section.latency else {"latency_tolerance": None}))


def planned(record: "RolloutRecord", settings: Settings, *, target: str) -> "RolloutRecord":
    """Return the record with its plan; one that has a plan already keeps it, also when the spec has changed since.

    Where no other version serves, and where an earlier version returns, there is one step, and nothing to wait for.
    """
    detail = dict(record.detail)
    if "plan" not in detail:
        steps = settings.plan()
        if (weights := detail.get("steps")) is not None:
            steps = replace(settings, steps=[int(each) for each in weights]).plan()
        elif detail["stable"] is None or "rollback" in detail:
            steps = [Step(weight=100)]
        elif (held := settings.held) is not None:
            steps = [Step(weight=held.weight), *(step for step in steps if step.weight > held.weight)]
            detail |= held.detail()
        detail["plan"] = [asdict(step) for step in steps]
        detail["steps"] = [step.weight for step in steps]
        detail["results"] = results_of(record)
    detail.setdefault("analysis", settings.judged_by().to_dict())
    detail.setdefault("target", target)
    return replace(record, detail=detail)


def plan_of(record: "RolloutRecord") -> list[Step]:
    """Return the steps of a planned rollout."""
    return [Step(**step) for step in record.detail["plan"]]


def step_of(record: "RolloutRecord") -> Step:
    """Return the step that a rollout is at."""
    return plan_of(record)[record.step]


def holds_until(record: "RolloutRecord") -> float:
    """Return when the time of the present step is over, in seconds since the epoch."""
    return float(record.detail["since"]) + step_of(record).hold_seconds


def gives_up_at(record: "RolloutRecord") -> float:
    """Return when the present step ends the rollout for lack of a result: never while a person holds it."""
    if HELD in record.detail:
        return math.inf
    return holds_until(record) + Analysis.from_dict(record.detail["analysis"]).patience_seconds


def moving(record: "RolloutRecord") -> "RolloutRecord":
    """Return the record before the weights move: the step before is over, the next one has not begun."""
    if record.step >= 0:
        record = finished_step(record)
    return replace(record, detail={**record.detail, "moving": True})


def aborted(record: "RolloutRecord", reason: str, *, withdraw: bool = False) -> "RolloutRecord":
    """Return the record of a rollout that ends without the version, and whose traffic is still to be returned.

    :param withdraw: whether the version is stopped as well
    """
    if record.step >= 0 and "plan" in record.detail and not record.detail.get("moving"):
        record = finished_step(record, action="rollback", reason=reason)
    detail = {**record.detail, "reason": reason}
    if has_moved(record) or withdraw:
        detail |= {"returning": True} | ({"withdraw": True} if withdraw else {})
    return replace(record, state="aborted", detail=detail)


def finishing(record: "RolloutRecord", *, alias: str | None) -> "RolloutRecord":
    """Return the record of a rollout whose last step is over, before the version takes over.

    :param alias: what moves to the version
    """
    record = finished_step(record)
    return replace(record, detail={**record.detail, "finishing": {"alias": alias}})


def done(record: "RolloutRecord") -> "RolloutRecord":
    """Return the record of a rollout whose version has taken over."""
    detail = {name: value for name, value in record.detail.items() if name != "finishing"}
    return replace(record, state="done", detail=detail)


def begun(record: "RolloutRecord", *, metrics: Metrics, restarts: int, now: float) -> "RolloutRecord":
    """Return the record at the begin of its next step: counting begins, what is known of the version stays."""
    stable, canary = observations(record, metrics)
    evidence = begin(stable=stable, canary=canary or Observation(), after=evidence_of(record))
    over = ("moving", "unready_since", "verdict", LEAVES)
    detail = {name: value for name, value in record.detail.items() if name not in over}
    if HELD in detail:
        detail[HELD] = {**detail[HELD], "since": now}
    detail |= {"since": now, "restarts": restarts, "evidence": evidence.to_dict()}
    return replace(record, step=record.step + 1, detail=detail)


def looked(
    record: "RolloutRecord", *, status: EndpointStatus, metrics: Metrics, now: float
) -> tuple["RolloutRecord", Verdict]:
    """Return the record after a look at the endpoint, and what is to be done.

    :raises RolloutAborted: the version's server ended, or is not there or not ready any more
    """
    detail, share = dict(record.detail), share_of(record, status)
    is_ready = _readiness(record, status, detail, now=now)
    analysis, step = Analysis.from_dict(detail["analysis"]), step_of(record)
    stable, canary = observations(record, metrics)
    evidence = evidence_of(record) or _evidence_of_earlier_counts(record, stable=stable, canary=canary)
    if canary is not None:
        copied = status.mirror is not None and status.mirror.predictor == predictor_name(record.version)
        evidence = update(
            evidence, stable=stable, canary=canary, expected_share=share, analysis=analysis, gets_copies=copied
        )
    moment = float(detail.get(WAITS_SINCE) or held_since(detail) or now)
    verdict = decide(evidence, analysis, step=step, seconds=moment - float(detail["since"]))
    if verdict.action == "promote" and (reason := _not_as_planned(record, is_ready=is_ready, share=share)):
        verdict = replace(verdict, action="rollback" if moment > gives_up_at(record) else "hold", reason=reason)
    verdict = as_a_person_wants(verdict, detail, is_ready=is_ready)
    detail |= {"evidence": evidence.to_dict(), "verdict": verdict.to_dict()}
    return replace(record, detail=detail), verdict


def _readiness(record: "RolloutRecord", status: EndpointStatus, detail: dict[str, Any], *, now: float) -> bool:
    """Return whether the version is ready; notes in ``detail`` since when it is not.

    :raises RolloutAborted: its server ended, or it is not there or not ready any more
    """
    mine = next((each for each in deployed(status) if each.version == record.version), None)
    if mine is None:
        raise RolloutAborted(f"version {record.version} is not ready any more: it is no longer behind the endpoint")
    if mine.restarts > int(detail.get("restarts", 0)):
        raise RolloutAborted(f"the server of version {record.version} ended during this step")
    if mine.ready:
        detail.pop("unready_since", None)
        return True
    if now - float(detail.setdefault("unready_since", now)) > UNREADY_SECONDS:
        raise RolloutAborted(f"version {record.version} is not ready any more {mine.problem}".strip())
    return False


def _not_as_planned(record: "RolloutRecord", *, is_ready: bool, share: float) -> str | None:
    """Return why a step cannot be over whose counts are good."""
    name, weight = f"version {record.version}", step_of(record).weight
    if not is_ready:
        return f"{name} is not ready"
    if abs(share - weight / 100) > 0.005:
        return f"{name} has {share:.0%} of the requests in place of {weight} %: its weight was changed by hand"
    return None


def finished_step(record: "RolloutRecord", **why: str) -> "RolloutRecord":
    """Return the record with the result of its present step.

    :param why: action and reason, where they are not those of the last look
    """
    evidence, verdict = evidence_of(record), record.detail.get("verdict", {})
    numbers = verdict.get("numbers", {})
    counts = {}
    if evidence is not None:
        counts[str(record.version)] = _counted(evidence.canary_step)
        if record.detail["stable"] is not None:
            counts[str(record.detail["stable"])] = _counted(evidence.stable_step)
    result = {
        "weight": step_of(record).weight,
        "counts": counts,
        "action": verdict.get("action", ""),
        "reason": verdict.get("reason", ""),
        "tests": numbers.get("tests", {}),
        **why,
    }
    # Not every step has them: a version that serves alone is compared with none.
    timed = {"since": record.detail.get("since"), "slow": numbers.get("slow")}
    result |= {name: value for name, value in timed.items() if value is not None}
    return replace(record, detail={**record.detail, "results": [*results_of(record), result]})


def evidence_of(record: "RolloutRecord") -> Evidence | None:
    """Return what is known of the version; None before the first step, and of a rollout of an earlier modelway."""
    data = record.detail.get("evidence")
    return None if data is None else Evidence.from_dict(data)


def observations(record: "RolloutRecord", metrics: Metrics) -> tuple[Observation | None, Observation | None]:
    """Return the counts of the stable version and of the new one; None where there are none."""
    stable = record.detail["stable"]
    theirs = None if stable is None else metrics.get(predictor_name(int(stable)))
    ours = metrics.get(predictor_name(record.version))
    return _observation(theirs), _observation(ours)


def share_of(record: "RolloutRecord", status: EndpointStatus) -> float:
    """Return the new version's share by the weights of the endpoint, among the two."""
    weights = {each.version: each.weight for each in deployed(status)}
    ours = weights.get(record.version, 0)
    stable = record.detail["stable"]
    together = ours + (0 if stable is None else weights.get(int(stable), 0))
    return ours / together if together else 0.0


def restarts_of(record: "RolloutRecord", status: EndpointStatus) -> int:
    """Return how often servers of the version ended by themselves."""
    return sum(each.restarts for each in deployed(status) if each.version == record.version)


def _observation(metrics: PredictorMetrics | None) -> Observation | None:
    if metrics is None:
        return None
    return Observation(
        requests=metrics.requests,
        errors=metrics.errors,
        named=metrics.named,
        latency=metrics.latency,
        call_errors=metrics.call_errors,
        invalid=metrics.invalid,
        since=metrics.since,
    )


def _evidence_of_earlier_counts(
    record: "RolloutRecord", *, stable: Observation | None, canary: Observation | None
) -> Evidence:
    """Return the evidence of a step that an earlier modelway began: it stored requests and errors before the step."""
    counts = record.detail.get("counts", {})

    def before(version: object, now: Observation | None) -> Observation | None:
        found = counts.get(str(version), {})
        if now is None:
            return None
        known = {name: int(found.get(name, 0)) for name in ("requests", "errors")}
        return Observation(**known, since=found.get("since", now.since), latency=now.latency)

    return begin(stable=before(record.detail["stable"], stable), canary=before(record.version, canary) or Observation())


def _counted(observation: Observation) -> dict[str, int]:
    counts = {"requests": observation.requests, "errors": observation.errors}
    return counts | ({"invalid": observation.invalid} if observation.invalid else {})
