"""Who trains the next stage of a sweep, and what became of its candidates. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from modelway.errors import NothingToSelect
from modelway.runs.candidates import survivors
from modelway.runs.messages.candidates import Candidate, CandidateResult, Sweep
from modelway.runs.messages.checkpoints import Checkpoint, StageReport
from modelway.runs.messages.evaluation import ConsideredCheckpoint, Evaluation, FailedEvaluation, Selection
from modelway.runs.selection import by_checkpoint, known_sum, limits_of, unusable_reason

if TYPE_CHECKING:
    from modelway.lineage.records.version import FailureRecord

#: how many names a message lists
_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Halving:
    """By what a stage's candidates are ranked, and how many continue."""

    eta: int
    metric: str
    mode: str
    constraints: Mapping[str, str]


class _OfCandidate(Protocol):
    """What the training of a candidate returned."""

    @property
    def stage(self) -> str | None:
        """The stage."""

    @property
    def candidate(self) -> str | None:
        """The candidate's name."""

    @property
    def place(self) -> int | None:
        """Where the candidate was among those of the stage."""


_Returned = TypeVar("_Returned", bound=_OfCandidate)


def returned_by(entered: Mapping[str, Sequence[Candidate]], found: Iterable[_Returned]) -> list[_Returned]:
    """Return what the candidates of each stage returned, without what is left of others.

    Airflow still gives what was returned at places that a cleared run no longer has, after all others.

    :param entered: those that were to train a stage, by its name
    """
    known = {(stage, each.id, each.place) for stage, those in entered.items() for each in those}
    return [each for each in found if (each.stage, each.candidate, each.place) in known]


def failure_cause(failures: "Iterable[FailureRecord]", *, candidate: str, stage: str | None) -> str:
    """Return why the training of a candidate failed at last; empty where that is not recorded.

    :param failures: those of the run, oldest first
    """
    found = [
        each.cause
        for each in failures
        # A training's key ends with the candidate, see TrainModelOperator.
        if each.stage == stage and each.key.rpartition("/")[2].partition("-")[0] == candidate
    ]
    return found[-1] if found else ""


def check_failures(
    candidates: Sequence[Candidate],
    reports: Sequence[StageReport],
    *,
    stage: str,
    allowed: int | None,
    failures: "Callable[[], Iterable[FailureRecord]]" = tuple,
) -> list[str]:
    """Return the names of the candidates whose training of a stage failed.

    :param candidates: those that were to train it
    :param allowed: how many may fail; None: all but one
    :param failures: called for those of the run, oldest first, where more have failed
    :raises NothingToSelect: more have failed
    """
    if not candidates:
        raise NothingToSelect(
            f"no candidate trained the stage '{stage}'", do="See why the task that chooses them failed"
        )
    ended = {report.candidate for report in reports if report.stage == stage}
    failed = [each.id for each in candidates if each.id not in ended]
    most = len(candidates) - 1 if allowed is None else allowed
    if len(failed) > most or len(failed) == len(candidates):
        names = ", ".join(failed[:_LISTED]) + (" and others" if len(failed) > _LISTED else "")
        cause = failure_cause(failures(), candidate=failed[0], stage=stage)
        raise NothingToSelect(
            f"{len(failed)} of {len(candidates)} candidates failed in the stage '{stage}', at most {most} may: {names}"
            + (f"; {failed[0]}: {cause}" if cause else ""),
            do="Look into their tasks' logs and clear them: those that succeeded are not trained again",
        )
    return failed


def next_candidates(
    candidates: Sequence[Candidate],
    *,
    stage: str,
    reports: Sequence[StageReport],
    checkpoints: Sequence[Checkpoint],
    evaluations: Sequence[Evaluation | FailedEvaluation] = (),
    halving: Halving | None = None,
) -> list[Candidate]:
    """Return the candidates that train the next stage, each with the checkpoint that it starts from.

    :param candidates: those that were to train the stage
    :param halving: None: all that trained the stage continue
    :raises NothingToSelect: none is left
    """
    ended = {report.candidate: report for report in reports if report.stage == stage}
    if any(report.skipped for report in ended.values()):
        # The run skips the stage: nothing was trained that could decide.
        return list(candidates)
    # Of each candidate the last one.
    last = {each.candidate: each for each in checkpoints if each.stage == stage}
    alive = [
        replace(each, checkpoint=last[each.id])
        for each in candidates
        if each.id in last and each.id in ended and ended[each.id].stopped is None
    ]
    if halving is not None:
        scores = _scores(alive, evaluations, halving)
        best = survivors(scores, entered=len(candidates), eta=halving.eta, mode=halving.mode)
        alive = [each for each in alive if each.id in best]
    if not alive:
        by = f" with a usable {halving.metric}" if halving else ""
        raise NothingToSelect(
            f"no candidate is left after the stage '{stage}'{by}: all failed, ended early or diverged",
            do="Search smaller values, loosen search.stop or select.constraints, and read the tasks' logs",
        )
    return [replace(each, place=place) for place, each in enumerate(alive)]


def _scores(
    alive: Sequence[Candidate], evaluations: Sequence[Evaluation | FailedEvaluation], halving: Halving
) -> dict[str, float | None]:
    limits, results = limits_of(halving.constraints), by_checkpoint(evaluations)
    scores: dict[str, float | None] = {}
    for each in alive:
        result = results.get(each.checkpoint.id) if each.checkpoint else None
        usable = unusable_reason(result, halving.metric, limits) is None
        scores[each.id] = result.metrics[halving.metric] if usable and isinstance(result, Evaluation) else None
    return scores


def sweep_of(
    *,
    method: str,
    entered: Mapping[str, Sequence[Candidate]],
    reports: Sequence[StageReport],
    selection: Selection,
    mode: str,
) -> Sweep:
    """Return what became of every candidate.

    :param entered: the candidates that were to train each stage, by its name, in order; those of the first are all
    :param selection: among the checkpoints of all candidates
    """
    chosen, stages = selection.checkpoint.candidate or "", list(entered)
    best = _best(selection, mode)
    results = []
    for candidate in entered[stages[0]]:
        own = {report.stage: report for report in reports if report.candidate == candidate.id}
        reached = [stage for stage, those in entered.items() if any(each.id == candidate.id for each in those)]
        shown = best.get(candidate.id)
        if candidate.id == chosen:
            shown = next(each for each in selection.evaluations if each.checkpoint == selection.checkpoint.id)
        results.append(
            CandidateResult(
                id=candidate.id,
                params=candidate.params,
                state="selected" if candidate.id == chosen else _state(own, reached, stages),
                stage=reached[-1],
                reason=next((report.stopped for report in own.values() if report.stopped), ""),
                checkpoint=shown.checkpoint if shown else None,
                metrics=shown.metrics if shown else {},
                not_finite=shown.not_finite if shown else {},
                seconds=known_sum(report.seconds for report in own.values()),
                cpu_seconds=known_sum(report.cpu_seconds for report in own.values()),
                gpu_seconds=known_sum(report.seconds * (report.gpu or 0) for report in own.values() if report.seconds),
            )
        )
    return Sweep(method=method, selected=chosen, candidates=tuple(results))


def training_of(candidate: str, *, stages: Sequence[str], reports: Sequence[StageReport]) -> list[StageReport]:
    """Return the reports of one candidate, as if trained alone; a stage that it did not train is skipped."""
    own = {report.stage: report for report in reports if report.candidate == candidate}
    return [own.get(stage) or StageReport(stage=stage, skipped=True, candidate=candidate) for stage in stages]


def _state(own: Mapping[str, StageReport], reached: Sequence[str], stages: Sequence[str]) -> str:
    if reached[-1] not in own:
        return "failed"
    if any(report.stopped for report in own.values()):
        return "stopped"
    return "trained" if reached[-1] == stages[-1] else "dropped"


def _best(selection: Selection, mode: str) -> dict[str, ConsideredCheckpoint]:
    """Return the best evaluated checkpoint of each candidate; of one that has no usable one, the last."""
    sign, metric = (1.0 if mode == "min" else -1.0), selection.metric or ""
    of_candidate: dict[str, list[ConsideredCheckpoint]] = {}
    for each in selection.evaluations:
        of_candidate.setdefault(each.checkpoint.partition("-")[0], []).append(each)
    found = {}
    for name, those in of_candidate.items():
        usable = [(sign * value, each) for each in those if (value := _usable(each, metric)) is not None]
        found[name] = min(usable, key=lambda known: known[0])[1] if usable else those[-1]
    return found


def _usable(checkpoint: ConsideredCheckpoint, metric: str) -> float | None:
    return checkpoint.metrics.get(metric) if checkpoint.left_out is None else None
