"""The tasks of a sweep: each stage once for every candidate, and between two stages who trains the next one."""

from typing import Any

from airflow.sdk import TaskGroup, TriggerRule, literal

from modelway.dag.documentation import stage_page
from modelway.dag.jobs import job_arguments
from modelway.dag.training import EVALUATE_TOOLTIP, TrainedTasks, compared_versions, evaluated, ranking
from modelway.operators.choose_candidates import ChooseCandidatesOperator
from modelway.operators.draw_candidates import DrawCandidatesOperator
from modelway.operators.select_candidate import SelectCandidateOperator
from modelway.operators.train import TrainModelOperator
from modelway.spec.model import ModelSpec, Stage
from modelway.spec.search import ETA, SearchSection

#: what decides runs without what failed
_SOME = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


def sweep_tasks(spec: ModelSpec, search: SearchSection, code: Any) -> TrainedTasks:
    """Return the tasks from the candidates to the selection among their checkpoints."""
    stages = spec.stages()
    halves = search.method == "halving"
    candidates: list[Any] = []
    trained: list[Any] = []
    evaluations: list[Any] = []
    with TaskGroup("train", tooltip="Each stage once for every candidate, from the last checkpoint of its own"):
        for stage in stages:
            if not trained:
                candidates.append(_drawn(search, code, stage))
            else:
                ranked_by = evaluations[-1] if halves else None
                candidates.append(_chosen(spec, search, stage, candidates[-1], trained[-1], ranked_by))
            trained.append(_trained(spec, search, code, stage, candidates[-1]))
            if halves and stage is not stages[-1]:
                names = {"divide": f"divide_{stage.name}", "task_id": f"evaluate_{stage.name}"}
                evaluations.append(_evaluated(spec, search, code, trained[-1].output, **names))
    with TaskGroup("evaluate", tooltip=EVALUATE_TOOLTIP):
        left = trained[-1].output if halves else [task.output for task in trained]
        evaluations.append(_evaluated(spec, search, code, left))
        select = SelectCandidateOperator(
            task_id="select",
            checkpoints=[task.output for task in trained],
            evaluations=evaluations,
            **ranking(spec),
            stages=[stage.name for stage in stages],
            candidates=candidates,
            reports=[task.output["report"] for task in trained],
            method=search.method,
            allowed_failures=search.allowed_failures,
            trigger_rule=_SOME,
            doc_md="Selects the best of the evaluated checkpoints of all candidates",
        )
        selected: Any = select.output
        return TrainedTasks(
            selected=selected,
            training=[selected["training"]],
            compared=compared_versions(spec, code, selected),
            sweep=selected["sweep"],
        )


def _drawn(search: SearchSection, code: Any, stage: Stage) -> Any:
    return DrawCandidatesOperator(
        task_id=f"candidates_{stage.name}",
        code=code,
        search=literal(search.model_dump(mode="json", by_alias=True)),
        seed="{{ params.seed }}",
        doc_md="Draws the candidates, the same ones for the same seed",
    ).output


def _chosen(
    spec: ModelSpec, search: SearchSection, stage: Stage, candidates: Any, trained: Any, evaluations: Any
) -> Any:
    """Return the candidates of a stage that is not the first."""
    return ChooseCandidatesOperator(
        task_id=f"candidates_{stage.name}",
        candidates=candidates,
        stage=spec.stages()[stage.index - 1].name,
        reports=trained.output["report"],
        checkpoints=trained.output,
        evaluations=evaluations,
        eta=(search.eta or ETA) if search.method == "halving" else None,
        **ranking(spec),
        allowed_failures=search.allowed_failures,
        trigger_rule=_SOME,
        doc_md=f"Decides which candidates train the stage `{stage.name}`",
    ).output


def _trained(spec: ModelSpec, search: SearchSection, code: Any, stage: Stage, candidates: Any) -> Any:
    return TrainModelOperator.partial(
        task_id=stage.name,
        code=code,
        stage=stage.name,
        job_params=literal(dict(stage.params)),
        seed="{{ params.seed }}",
        command=literal(stage.command),
        stop=literal(search.stop.model_dump(mode="json")) if search.stop else None,
        max_active_tis_per_dagrun=search.parallel,
        map_index_template="{{ task.which }}",
        doc_md=stage_page(stage, stages=len(spec.stages())),
        **job_arguments(spec, stage),
    ).expand(candidate=candidates)


def _evaluated(spec: ModelSpec, search: SearchSection, code: Any, checkpoints: Any, **names: str) -> Any:
    """Return evaluations; what is searched comes with each checkpoint, unless the evaluation sets it itself."""
    params = {name: value for name, value in spec.train.params.items() if name not in search.params}
    params |= spec.evaluate.params
    return evaluated(spec, code, checkpoints, params=params, trigger_rule=_SOME, **names)
