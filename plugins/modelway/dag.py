"""ModelSpec → DAG: the order of the stages, and only that."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, TriggerRule, get_parsing_context, literal

from modelway.backends.base import Options
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.operators.verify import VerifyModelOperator
from modelway.spec.load import FILE_NAME, load_files, load_specs, models_folder
from modelway.spec.model import Evaluation, ModelSpec, Resources, Stage

RETRY_DELAY = timedelta(seconds=10)


def load_dags() -> dict[str, DAG]:
    """Return the DAG of every model spec that loads, by its id, the model's name.

    A spec that does not load is told by ``dags/model_specs.py``; here it is left out, so that it takes down no other.
    A task that starts gets its own DAG alone.
    """
    wanted = get_parsing_context().dag_id
    loaded = load_specs(models_folder()) if wanted is None else load_files([models_folder() / wanted / FILE_NAME])
    return {name: build_dag(spec) for name, spec in loaded.specs.items()}


def build_dag(spec: ModelSpec) -> DAG:
    """Return the DAG of one model: package, train, evaluate, freeze, serve."""
    with DAG(
        dag_id=spec.model,
        description=spec.description or None,
        schedule=None,
        tags={"modelway", *spec.tags},
        # One run at a time: two rollouts of one endpoint would move each other's traffic.
        max_active_runs=1,
        default_args={"owner": spec.owner, "retries": spec.retries, "retry_delay": RETRY_DELAY},
        params={
            "seed": Param(
                spec.train.seed, type="integer", minimum=0, maximum=2**32 - 1, description="Makes training repeatable"
            ),
        },
    ) as dag:
        code = PackageCodeOperator(
            task_id="package", model=spec.model, folder=str(spec.folder), module=spec.code
        ).output
        stages = _train(spec, code)
        training = [stage.output["report"] for stage in stages]
        selected = _evaluate(spec, code, stages[-1].output)
        version = _freeze(spec, code, training, selected)
        _serve(spec, version)
    return dag


def _train(spec: ModelSpec, code: Any) -> list[Any]:
    """Return the stages' tasks; each starts from the one before."""
    tasks: list[Any] = []
    with TaskGroup("train", tooltip="One job per stage, each from the last checkpoint of the one before"):
        for stage in spec.stages():
            task = TrainModelOperator(
                task_id=stage.name,
                code=code,
                stage=stage.name,
                job_params=literal(dict(stage.params)),
                seed="{{ params.seed }}",
                start_from=tasks[-1].output if tasks else None,
                command=literal(stage.command),
                backend=stage.backend,
                options=_options(stage.resources, stage),
            )
            tasks.append(task)
    return tasks


def _evaluate(spec: ModelSpec, code: Any, checkpoints: Any) -> Any:
    """Return the selection among all checkpoints; a failed evaluation leaves its checkpoint out and shows red."""
    evaluation = spec.evaluation()
    with TaskGroup("evaluate", tooltip="Every checkpoint in parallel, then the best one"):
        evaluations = EvaluateCheckpointOperator.partial(
            task_id="checkpoint",
            code=code,
            job_params=literal(dict(evaluation.params)),
            seed="{{ params.seed }}",
            command=literal(evaluation.command),
            backend=evaluation.backend,
            options=_options(evaluation.resources, evaluation),
            max_active_tis_per_dagrun=evaluation.parallel,
            map_index_template="{{ task.checkpoint['id'] }}",
        ).expand(checkpoint=checkpoints)
        return SelectCheckpointOperator(
            task_id="select",
            checkpoints=checkpoints,
            evaluations=evaluations.output,
            metric=spec.select.metric,
            mode=spec.select.mode,
            trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        ).output


def _freeze(spec: ModelSpec, code: Any, training: list[Any], selected: Any) -> Any:
    """Return the registered version."""
    # Both load one checkpoint, as an evaluation does.
    like = spec.evaluation()
    job: dict[str, Any] = {"backend": like.backend, "options": _options(like.resources, like)}
    with TaskGroup("freeze", tooltip="An immutable, verified, registered version"):
        archive = FreezeModelOperator(
            task_id="freeze",
            code=code,
            selected=selected,
            training=training,
            seed="{{ params.seed }}",
            **job,
        ).output
        verified = VerifyModelOperator(
            task_id="verify",
            model=spec.model,
            archive=archive,
            selected=selected,
            gates={name: [gate.op, gate.limit] for name, gate in spec.verify.gates.items()},
            tolerance=_tolerance(spec),
            **job,
        ).output
        return RegisterModelOperator(
            task_id="register",
            code=code,
            training=training,
            selected=selected,
            archive=archive,
            verified=verified,
            spec=literal(spec.to_dict()),
        ).output


def _serve(spec: ModelSpec, version: Any) -> None:
    with TaskGroup("serve", tooltip="The version's image, its predictor and its share of the traffic"):
        image = BuildImageOperator(
            task_id="build_image",
            version=version,
            base=spec.image.base,
            repository=spec.image.repository,
            path=spec.image.path,
            builder=spec.image.builder,
        ).output
        deployment = DeployModelOperator(
            task_id="deploy",
            version=version,
            image=image,
            target=spec.endpoint.target,
            host=spec.endpoint.host,
            port=spec.endpoint.port,
            path=spec.image.path,
            tolerance=_tolerance(spec),
        ).output
        PromoteModelOperator(
            task_id="promote",
            version=version,
            deployment=deployment,
            steps=list(spec.rollout.steps),
            interval_seconds=spec.rollout.interval_seconds,
        )


def _tolerance(spec: ModelSpec) -> dict[str, float]:
    return {"absolute": spec.verify.tolerance.absolute, "relative": spec.verify.tolerance.relative}


def _options(resources: Resources, timed: Stage | Evaluation) -> dict[str, Any]:
    """Return a job's options as plain data."""
    given = {field.name: getattr(resources, field.name, None) for field in fields(Options)}
    return {**given, "timeout_seconds": timed.timeout_seconds}
