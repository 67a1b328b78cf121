"""Plan a run: its data interval, its data sets, what it starts from, and whether it trains at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import DownstreamTasksSkipped

from modelway.errors import ModelwayError
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators._held import check_share
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import run_key
from modelway.operators.start import record_start
from modelway.runs.blocking import blocked_reason
from modelway.runs.inputs import (
    declared_params,
    inputs_digest,
    read_datasets,
    refuse_unknown_fields,
    rendered_datasets,
    run_stages,
)
from modelway.runs.interval import Interval
from modelway.runs.messages.code import CodePackage, RunPlan
from modelway.runs.messages.message import Xcom
from modelway.spec.model import ModelSpec

if TYPE_CHECKING:
    from modelway.runs.versions import KnownVersions

ROLLOUTS = ("auto", "no", "rollback", "yes")


class PlanRunOperator(ModelwayOperator):
    """Decide once what a run does; a retry and every later task use this plan.

    The run's own parameters, all optional, come from its form: ``seed``, ``skip`` (names of stages), ``version`` (a
    version to reuse in place of training), ``base`` (a version to start from, ``none`` for none), ``rollout``
    (``auto``, ``yes``, ``no``, ``rollback``), ``hold_at`` (the per cent at which a rollout is held), ``reason``, and
    those that the spec declares. A run that was started with any other field, unless the DAG's own ``params`` have it,
    is refused.

    When the run reuses an existing version, the tasks up to RegisterModelOperator are skipped: give that
    one ``trigger_rule="none_failed_min_one_success"``.

    :param code: what PackageCodeOperator returned
    :param spec: the model spec as plain data

    Returns ``code`` with one more key, ``plan``: give it as ``code`` to the operators that follow. The plan is
    ``{inputs, interval: {start, end}, partition, reason, params, datasets: [{name, uri, digest, version}],
    base: {version, checkpoint}, skip, version, reuse_reason, blocked_reason, requested}``.
    """

    template_fields: Sequence[str] = ("code", "spec")
    accepts: ClassVar[Checks] = {
        "code": checks.CODE,
        "spec": checks.SPEC,
    }

    def __init__(self, *, code: Any, spec: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.spec = spec
        self.check_arguments()

    def run(self, context: Context) -> Xcom:
        """Make the plan, and skip training where it reuses a version."""
        plan = self._plan(context, ModelSpec.model_validate(self.spec))
        self._answer_requests(context)
        record_start(context, plan)
        if plan.version is None:
            return plan.to_xcom()
        skipped = self._training_tasks()
        _forget(context, skipped)
        # A task that ends with this exception returns nothing.
        context["ti"].xcom_push(key="return_value", value=plan.to_xcom())
        raise DownstreamTasksSkipped(tasks=skipped)

    def _plan(self, context: Context, spec: ModelSpec) -> RunPlan:
        dag, dag_run = self.get_dag(), context["dag_run"]
        refuse_unknown_fields(spec, getattr(dag_run, "conf", None) or {}, others=dag.params if dag else ())
        form = dict(context.get("params") or {})
        rollout, wanted = form.get("rollout"), form.get("version")
        if rollout not in (None, *ROLLOUTS):
            raise ModelwayError(f"'{rollout}' is not a value of rollout", known=ROLLOUTS, given=str(rollout))
        if rollout == "rollback" and not wanted:
            raise ModelwayError("a rollback is to a version, and the run names none", do="Set its parameter version")
        check_share(form)
        skip = tuple(form.get("skip") or ())
        run_stages(spec, skip)
        lineage, interval = self._known_versions(context), interval_of(context, spec)
        plan = RunPlan(
            code=CodePackage.from_xcom(self.code),
            interval=interval,
            partition=interval.partition,
            reason=form.get("reason") or event_reason(context),
            params=declared_params(spec, form),
            skip=skip,
            requested=bool(wanted) or rollout == "yes",
        )
        if wanted:
            plan = replace(plan, version=lineage.version(str(wanted)), reuse_reason="the run requests it")
        else:
            seed = spec.train.seed if form.get("seed") is None else int(form["seed"])
            rebuild = "none" if requested_rebuild(context) else ""
            base = lineage.base(str(form.get("base") or rebuild), spec.train.base, warn=self.log.warning)
            plan = self._with_inputs(lineage, spec, replace(plan, base=base), interval=interval, seed=seed)
        reason = blocked_reason(
            lineage,
            rollout=rollout,
            is_backfill=dag_run.run_type.value == "backfill",
            is_requested=plan.requested,
            interval=interval,
            run_after=dag_run.run_after,
            reused=plan.version.version if plan.version else None,
        )
        plan = replace(plan, blocked_reason=reason)
        self._log_plan(plan, interval)
        return plan

    def _answer_requests(self, context: Context) -> None:
        """Record that this run answers what the monitor requested."""
        from modelway.hooks.lineage import lineage_from_airflow

        if requests := [extra["request"] for extra in _extras(context) if isinstance(extra.get("request"), int)]:
            store = lineage_from_airflow(self.settings.lineage_url)
            for request in requests:
                store.monitoring.record_answer(request, run=run_key(context))

    def _known_versions(self, context: Context) -> "KnownVersions":
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.runs.versions import KnownVersions

        dag_run, model = context["dag_run"], CodePackage.from_xcom(self.code).model
        store = lineage_from_airflow(self.settings.lineage_url)
        return KnownVersions(store, self.settings, model=model, dag_id=dag_run.dag_id, run_id=dag_run.run_id)

    def _with_inputs(
        self, lineage: "KnownVersions", spec: ModelSpec, plan: RunPlan, *, interval: Interval, seed: int
    ) -> RunPlan:
        """Return the plan with its data sets, the digest of its inputs, and the version with the same inputs if any."""
        datasets = read_datasets(rendered_datasets(spec, interval=interval, params=plan.params))
        digest = inputs_digest(
            spec=spec,
            code_digest=plan.code.digest,
            module=plan.code.module,
            datasets=datasets,
            interval=interval,
            params=plan.params,
            seed=seed,
            skip=plan.skip,
            base=plan.base.checkpoint.digest if plan.base else None,
        )
        plan = replace(plan, inputs=digest, datasets=tuple(datasets))
        return self._with_same_inputs(lineage, plan) if spec.reuse == "same-inputs" else plan

    def _with_same_inputs(self, lineage: "KnownVersions", plan: RunPlan) -> RunPlan:
        """Return the plan with the earlier version of the same inputs, unchanged where there is none."""
        if plan.inputs is None:
            self.log.warning(
                "a data set has neither a digest nor a version, so its content cannot be compared with that of an "
                "earlier run: the model is trained. Give the data set a version, or a uri whose store has digests."
            )
            return plan
        if (own := lineage.own()) is not None:
            self.log.info("this run made version %d before and was cleared: it trains again", own)
            return plan
        if (found := lineage.same_inputs(plan.inputs)) is None:
            return plan
        number, run = found
        reason = f"the inputs are those of version {number} (run {run})"
        return replace(plan, version=lineage.version(str(number)), reuse_reason=reason)

    def _log_plan(self, plan: RunPlan, interval: Interval) -> None:
        """Log the plan, one line for each decision."""
        start, end = interval.to_dict().values()
        self.log.info("data interval: %s", f"{start} to {end}" if start else f"up to {end}")
        for dataset in plan.datasets:
            self.log.info("data set %s: %s %s", dataset.name, dataset.uri, dataset.digest or "(not known)")
        if plan.params:
            self.log.info("parameters: %s", plan.params)
        if plan.base:
            self.log.info("starts from version %d", plan.base.version)
        if plan.version:
            self.log.info("reuses version %d and trains nothing: %s", plan.version.version, plan.reuse_reason)
        if plan.blocked_reason:
            self.log.info("%s", plan.blocked_reason)

    def _training_tasks(self) -> list[str]:
        """Return the tasks that are skipped when a version is reused: those between this one and the registration."""
        from modelway.operators.register import RegisterModelOperator

        reached: dict[str, Any] = {}
        waiting = list(self.downstream_list)
        while waiting:
            task = waiting.pop()
            if task.task_id not in reached:
                reached[task.task_id] = task
                # The tasks after the registration belong to this run, or to another model.
                waiting += [] if isinstance(task, RegisterModelOperator) else task.downstream_list
        registering = {name: task for name, task in reached.items() if isinstance(task, RegisterModelOperator)}
        if not registering:
            return sorted(self.downstream_task_ids)
        before = {task.task_id for each in registering.values() for task in each.get_flat_relatives(upstream=True)}
        return sorted(before & reached.keys() - registering.keys())


def _forget(context: Context, tasks: Iterable[str]) -> None:
    """Delete the XComs of the tasks from before the run was cleared.

    Airflow does so for a task that starts, and these do not start: an old archive would count as a new one.
    """
    from airflow.sdk.execution_time.xcom import XCom

    ti, dag_run = context["ti"], context["dag_run"]
    for task in tasks:
        if ti.xcom_pull(task_ids=task) is not None:
            XCom.delete(key="return_value", task_id=task, dag_id=dag_run.dag_id, run_id=dag_run.run_id)


def interval_of(context: Context, spec: ModelSpec) -> Interval:
    """Return the data interval of a run: its own, else the last one of the spec's cron, else all data up to the run."""
    from modelway.hooks.interval import last_interval

    dag_run = context["dag_run"]
    key: str | None = getattr(dag_run, "partition_key", None)
    # The keys are absent where a run has no logical date.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    # A run started by the form has a date, and without a cron an interval from that date to itself.
    if start is not None and end is not None and start < end:
        return Interval.of(start, end, partition=key)
    if spec.schedule and spec.schedule.cron:
        last = last_interval(spec.schedule.cron, spec.schedule.timezone, before=dag_run.run_after)
        return Interval.of(*last, partition=key)
    return Interval.of(None, dag_run.run_after, partition=key)


def _extras(context: Context) -> list[Mapping[str, Any]]:
    """Return what the asset events that started the run say."""
    events: Iterable[Any] = getattr(context["dag_run"], "consumed_asset_events", None) or ()
    return [event.extra or {} for event in events]


def requested_rebuild(context: Context) -> bool:
    """Return whether an asset event wants a training from the beginning, since the schema of the data changed."""
    return any(extra.get("rebuild") is True for extra in _extras(context))


def event_reason(context: Context) -> str | None:
    """Return the reason in the asset event that started the run; None without one."""
    events: Iterable[Any] = getattr(context["dag_run"], "consumed_asset_events", None) or ()
    reasons = []
    for event in events:
        reason = (event.extra or {}).get("reason")
        reasons.append(f"event of {event.asset.uri}" + (f": {reason}" if reason else ""))
    return "; ".join(dict.fromkeys(reasons)) or None
