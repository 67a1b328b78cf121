"""The order of a model's stages, as a DAG."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import airflow.sdk
from airflow.sdk import DAG, TaskGroup, TriggerRule, get_parsing_context, literal
from airflow.sdk.definitions.param import ParamsDict

from modelway.dag.documentation import model_page
from modelway.dag.form import run_form
from modelway.dag.jobs import job_arguments
from modelway.dag.notify import callbacks, report_task_failure
from modelway.dag.queues import on_serving_host
from modelway.dag.refused import REFUSED, refused_models
from modelway.dag.schedule import run_dates, schedule_of, version_asset
from modelway.dag.training import TrainedTasks, training_tasks
from modelway.fields.section import Section
from modelway.operators.accept import AcceptVersionOperator
from modelway.operators.arguments import checked_by_the_spec
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.plan import PlanRunOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.verify import VerifyModelOperator
from modelway.spec.collection import paused_collection
from modelway.spec.environments import Serving, environments_of
from modelway.spec.load import FILE_NAME, load_files, load_specs, models_folder, unknown_environment
from modelway.spec.model import ModelSpec
from modelway.spec.options import options_of
from modelway.spec.parse_cache import ParseCache
from modelway.spec.problems import invalid_spec
from modelway.spec.search import SearchSection
from modelway.spec.sections import ImageSection

_log = logging.getLogger(__name__)


def load_dags(folder: Path | None = None) -> dict[str, DAG]:
    """Return the DAG of every valid model spec in a folder of models, by its id, the model's name.

    An invalid spec is reported by ``dags/model_specs.py``; here it is left out, so that it affects no other model. For
    models that Airflow refuses, one placeholder DAG shows why. A starting task gets only its own DAG.

    :raises InvalidSpec: no model has the environment of ``MODELWAY_ENV``: without its values they would be other models
    """
    folder = folder or models_folder()
    wanted = get_parsing_context().dag_id
    cache = ParseCache(folder, versions=(airflow.__version__, airflow.sdk.__version__), writes=wanted is None)
    if wanted is None:
        loaded = load_specs(folder, cache=cache)
    else:
        loaded = load_files([folder.absolute() / wanted / FILE_NAME], cache=cache)
    if wanted is None and (unknown := unknown_environment(loaded, folder=folder, environment=None)):
        raise invalid_spec(unknown)
    dags: dict[str, DAG] = {}
    refused: dict[str, Exception] = {}
    with paused_collection():
        for name, spec in loaded.specs.items():
            try:
                dags[name] = _cached_dag(spec, cache)
            # A model that Airflow refuses must not affect the others; a starting task has no others.
            except Exception as error:
                if wanted is not None:
                    raise
                _log.exception("the model %s has no DAG: %s", name, error)
                refused[name] = error
    return dags | {REFUSED: refused_models(refused)} if refused else dags


def _cached_dag(spec: ModelSpec, cache: ParseCache) -> DAG:
    """Return the DAG of one model, which an earlier process may have built from the same files."""
    file = spec.folder / FILE_NAME
    found = cache.load(file, "dag")
    if isinstance(found, ModelDag):
        return found
    dag = build_dag(spec)
    cache.store(file, "dag", dag)
    return dag


class ModelDag(DAG):
    """The DAG of one model."""

    def __hash__(self) -> int:
        """Return the hash of the id: Airflow's own repeats most of the DAG, and is made for each edge of its tasks."""
        return hash(self.dag_id)


def build_dag(spec: ModelSpec) -> DAG:
    """Return the DAG of one model: package, plan, train, evaluate, freeze, serve."""
    plain = literal(spec.to_dict())
    with (
        checked_by_the_spec(),
        ModelDag(
            dag_id=spec.model,
            description=spec.description or None,
            tags={"modelway", *spec.tags},
            max_active_runs=spec.max_active_runs,
            default_args={
                "owner": spec.owner,
                "retries": spec.retries,
                "retry_delay": timedelta(seconds=spec.retry_delay_seconds),
                "on_failure_callback": report_task_failure,
            },
            doc_md=model_page(spec),
            schedule=schedule_of(spec),
            **run_dates(spec),
            **callbacks(spec),
        ) as dag,
    ):
        package = PackageCodeOperator(
            task_id="package",
            model=spec.model,
            module=spec.code,
            doc_md="Stores the model's folder by its content; its digest goes into the record",
        )
        code = PlanRunOperator(
            task_id="plan",
            code=package.output,
            spec=plain,
            doc_md="Decides what this run does: its interval, its data sets, and whether it reuses a version",
        ).output
        made = training_tasks(spec, code) if spec.search is None else _sweep(spec, spec.search, code)
        version = _freeze(spec, plain, code, made)
        _serve(spec, code, version)
    # Set only now, since each task of a DAG with parameters copies, checks and serialises them.
    dag.params = ParamsDict(run_form(spec))
    return dag


def _sweep(spec: ModelSpec, search: SearchSection, code: Any) -> TrainedTasks:
    # Imported with operators that most models do not have.
    from modelway.dag.sweep import sweep_tasks

    return sweep_tasks(spec, search, code)


def _freeze(spec: ModelSpec, plain: Any, code: Any, made: TrainedTasks) -> Any:
    """Return the registered version."""
    selected, training, compared = made.selected, made.training, made.compared
    # Both load one checkpoint, as an evaluation does.
    job = job_arguments(spec, spec.evaluation())
    with TaskGroup("freeze", tooltip="An immutable, verified, registered version"):
        archive = FreezeModelOperator(
            task_id="freeze",
            code=code,
            selected=selected,
            training=training,
            seed="{{ params.seed }}",
            format=spec.freeze.format,
            command=literal(spec.freeze.command),
            doc_md="Makes the archive: the model in its served form, with its provenance",
            **job,
        ).output
        verified = VerifyModelOperator(
            task_id="verify",
            model=spec.model,
            archive=archive,
            selected=selected,
            gates={name: str(gate) for name, gate in spec.verify.gates.items()},
            compared=compared or None,
            tolerance=_tolerance(spec),
            accept_worse=spec.registers_worse,
            doc_md="Compares the frozen model with its checkpoint and checks the gates",
            **job,
        ).output
        return RegisterModelOperator(
            task_id="register",
            code=code,
            training=training,
            selected=selected,
            archive=archive,
            verified=verified,
            spec=plain,
            sweep=made.sweep,
            alias=spec.register_.alias,
            # A run that reuses a version skips everything between the plan and this task.
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            outlets=[version_asset(spec.model)],
            doc_md="Writes the version into the lineage, in one transaction, and moves its alias",
        ).output


def _serve(spec: ModelSpec, code: Any, version: Any) -> None:
    queue = on_serving_host(spec)
    with TaskGroup("serve", tooltip="The version's image, its predictor and its share of the traffic"):
        image = BuildImageOperator(
            task_id="build_image",
            version=version,
            base=spec.image.base,
            repository=spec.image.repository,
            path=spec.image.path,
            builder=spec.image.builder,
            tag=spec.image.tag,
            doc_md="Puts the version's model on its base image",
            # Not in the pool of the jobs: it needs no GPU, and may be no job.
            backend=spec.imaging().backend,
            options=literal(options_of(spec, spec.imaging())),
            **_with_platform(spec.image),
            # An image that is in no registry is in the home of the host that built it.
            **({} if spec.image.repository else queue),
        ).output
        deployment = DeployModelOperator(
            task_id="deploy",
            version=version,
            image=image,
            path=spec.image.path,
            tolerance=_tolerance(spec),
            allow_signature_change=spec.rollout.allow_signature_change,
            when_busy=spec.rollout.when_busy,
            doc_md="Starts a predictor of the version, without traffic",
            **_in_environments(spec, _deployment),
            **queue,
        ).output
        accepted = _accept(spec, code, version, deployment)
        promote = PromoteModelOperator(
            task_id="promote",
            version=version,
            deployment=deployment,
            interval_seconds=spec.rollout.interval_seconds,
            doc_md="Moves the traffic in steps, and back when the version fails a check",
            **_judging(spec),
            **_in_environments(spec, _rollout),
            **queue,
        )
        if accepted is not None:
            accepted.set_downstream(promote)


def _accept(spec: ModelSpec, code: Any, version: Any, deployment: Any) -> AcceptVersionOperator | None:
    """Return the task of the model's own tests, None where there are none."""
    if (acceptance := spec.acceptance()) is None:
        return None
    return AcceptVersionOperator(
        task_id="accept",
        code=code,
        version=version,
        deployment=deployment,
        job_params=literal(dict(acceptance.params)),
        searched=_searched(spec),
        seed="{{ params.seed }}",
        command=literal(acceptance.command),
        doc_md="Tests the version behind its endpoint, by the model's own code, before it gets traffic",
        **job_arguments(spec, acceptance),
    )


def _searched(spec: ModelSpec) -> list[str] | None:
    """Return the parameters of a candidate that the tests of its version get: those that the tests do not set."""
    if spec.search is None or spec.rollout.acceptance is None:
        return None
    return [name for name in spec.search.params if name not in spec.rollout.acceptance.params]


def _in_environments(spec: ModelSpec, arguments: Callable[[ModelSpec, Serving], dict[str, Any]]) -> dict[str, Any]:
    """Return a task's arguments in the environment that the run names, and in the first one until it is known."""
    environments = environments_of(spec.model, spec.endpoint)
    found = {name: arguments(spec, serving) for name, serving in environments.items()}
    if None in found:
        return _literal(found[None])
    first = next(iter(found.values()))
    return {**_literal(first), "environment": "{{ params.environment }}", "environments": literal(found)}


def _literal(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments whose mappings are no templates."""
    return {name: literal(value) if isinstance(value, dict) else value for name, value in arguments.items()}


def _deployment(spec: ModelSpec, serving: Serving) -> dict[str, Any]:
    """Return the arguments of a deployment that depend on the environment."""
    section = serving.section
    own = {"platform": section.platform(), "serving": section.serving()}
    return {"endpoint": serving.endpoint, "target": section.target, **own}


def _rollout(spec: ModelSpec, serving: Serving) -> dict[str, Any]:
    """Return the arguments of a rollout that depend on the environment: one for development has no steps."""
    if serving.is_development:
        return {"steps": [100], "alias": None, "approval": False, "mode": "canary"}
    rollout = spec.rollout
    steps = [step if isinstance(step, int) else _written(step) for step in rollout.steps]
    return {"steps": steps, "alias": rollout.alias, "approval": rollout.approval, "mode": rollout.mode}


def _judging(spec: ModelSpec) -> dict[str, Any]:
    """Return the arguments by which a rollout is judged."""
    analysis = _written(spec.rollout.analysis)
    found: dict[str, Any] = {"minimum_requests": spec.rollout.minimum_requests}
    return found | ({"analysis": literal(analysis)} if analysis else {})


def _written(section: Section) -> dict[str, Any]:
    """Return what a section sets, in the form of the YAML."""
    return section.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _tolerance(spec: ModelSpec) -> dict[str, float]:
    return {"absolute": spec.verify.tolerance.absolute, "relative": spec.verify.tolerance.relative}


def _with_platform(section: ImageSection) -> dict[str, Any]:
    """Return the task's settings with those of the chosen builder, which are not templates.

    Images of a model are built one at a time. Tasks that change its endpoint are not limited: it has one rollout at a
    time by the lineage, and one that waits, deferred, would count as running and block a rollback.
    """
    return {"max_active_tis_per_dag": 1, "platform": literal(section.platform())}
