"""The tasks from the code to the selected checkpoint, where each stage is trained once; and what a sweep shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import TaskGroup, TriggerRule, literal

from modelway.dag.documentation import stage_page
from modelway.dag.jobs import job_arguments
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.evaluate_version import EvaluateVersionOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.spec.model import ModelSpec

EVALUATE_TOOLTIP = "Every checkpoint, several jobs at a time, then the best one"


@dataclass(frozen=True, kw_only=True)
class TrainedTasks:
    """The results of the tasks from the code to the selected checkpoint."""

    selected: Any
    training: list[Any]
    """the reports of the stages that led to it"""
    compared: list[Any]
    """the evaluations of the versions that gates compare with"""
    sweep: Any = None
    """what became of every candidate; None where there is one training"""


def training_tasks(spec: ModelSpec, code: Any) -> TrainedTasks:
    """Return the tasks of the stages, each from the one before, of the evaluations and of the selection.

    A failed evaluation of a checkpoint leaves that one out and shows as failed.
    """
    stages = _trained(spec, code)
    checkpoints = stages[-1].output
    with TaskGroup("evaluate", tooltip=EVALUATE_TOOLTIP):
        evaluations = evaluated(
            spec,
            code,
            checkpoints,
            divide=None if spec.evaluation().per_job == 1 else "divide",
            params=spec.evaluation().params,
        )
        selected = SelectCheckpointOperator(
            task_id="select",
            checkpoints=checkpoints,
            evaluations=evaluations,
            **ranking(spec),
            trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
            doc_md="Selects the best of the evaluated checkpoints",
        ).output
        return TrainedTasks(
            selected=selected,
            training=[stage.output["report"] for stage in stages],
            compared=compared_versions(spec, code, selected),
        )


def _trained(spec: ModelSpec, code: Any) -> list[Any]:
    """Return the tasks of the stages; each starts from the one before."""
    tasks: list[Any] = []
    stages = spec.stages()
    with TaskGroup("train", tooltip="One job per stage, each from the last checkpoint of the one before"):
        for stage in stages:
            task = TrainModelOperator(
                task_id=stage.name,
                code=code,
                stage=stage.name,
                job_params=literal(dict(stage.params)),
                seed="{{ params.seed }}",
                start_from=tasks[-1].output if tasks else None,
                command=literal(stage.command),
                doc_md=stage_page(stage, stages=len(stages)),
                **job_arguments(spec, stage),
            )
            tasks.append(task)
    return tasks


def evaluated(
    spec: ModelSpec,
    code: Any,
    checkpoints: Any,
    *,
    task_id: str = "checkpoint",
    divide: str | None = "divide",
    params: Mapping[str, Any],
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS,
) -> Any:
    """Return the evaluations of checkpoints.

    :param divide: the id of the task that divides them among jobs; None: each has a job of its own
    :param params: what the code finds in ``job.params``
    :param trigger_rule: when they are divided
    """
    evaluation = spec.evaluation()
    if divide is not None:
        checkpoints = DivideCheckpointsOperator(
            task_id=divide,
            code=code,
            checkpoints=checkpoints,
            parallel=evaluation.parallel,
            per_job=evaluation.per_job,
            trigger_rule=trigger_rule,
            doc_md="Divides the checkpoints among jobs, so that starting them costs little",
        ).output
    mapped = EvaluateCheckpointOperator.partial(
        task_id=task_id,
        code=code,
        job_params=literal(dict(params)),
        seed="{{ params.seed }}",
        command=literal(evaluation.command),
        row_metrics=bool(spec.verify.versions),
        max_active_tis_per_dagrun=evaluation.parallel,
        map_index_template="{{ task.which }}",
        doc_md="Evaluates its checkpoints as one job",
        **job_arguments(spec, evaluation),
    )
    return mapped.expand(checkpoint=checkpoints).output


def ranking(spec: ModelSpec) -> dict[str, Any]:
    """Return the arguments by which checkpoints are ranked."""
    limits = {name: str(gate) for name, gate in spec.select.constraints.items()}
    return {"metric": spec.select.metric, "mode": spec.select.mode, "constraints": limits or None}


def compared_versions(spec: ModelSpec, code: Any, selected: Any) -> list[Any]:
    """Return the evaluations of the versions that gates compare with, on the data of this run."""
    return [
        EvaluateVersionOperator(
            task_id=f"against_{version}",
            code=code,
            version=version,
            selected=selected,
            seed="{{ params.seed }}",
            doc_md=f"Evaluates {version} on the data of this run, for the gates that compare with it",
            **job_arguments(spec, spec.evaluation()),
        ).output
        for version in spec.verify.versions
    ]
