"""Plan a run: its data interval, its data sets, what it starts from, and whether it trains at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import DownstreamTasksSkipped

from modelway.errors import ModelwayError
from modelway.operators import _argument_checks as checks
from modelway.operators._begun import tell_begun
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.blocking import blocked_reason
from modelway.runs.inputs import (
    Interval,
    declared_params,
    inputs_digest,
    read_datasets,
    refuse_unknown_fields,
    rendered_datasets,
    run_stages,
)

if TYPE_CHECKING:
    from modelway.runs.versions import KnownVersions

ROLLOUTS = ("auto", "no", "yes")


class PlanRunOperator(ModelwayOperator):
    """Decide once what a run does; a retry and every later task go by what was decided.

    The run's own parameters, all optional, come from its form: ``seed``, ``skip`` (names of stages), ``version`` (a
    version to take in place of training), ``base`` (a version to start from, ``none`` for none), ``rollout`` (``auto``,
    ``yes``, ``no``), ``reason``, and those that the spec declares. A run that was started with any other field, which
    neither has nor the DAG's own ``params`` have, is refused.

    When the run takes a version that is there already, the tasks up to RegisterModelOperator are skipped: give that one
    ``trigger_rule="none_failed_min_one_success"``.

    :param code: what PackageCodeOperator returned
    :param spec: the model spec as plain data

    Returns ``code`` with one more key, ``plan``: give it as ``code`` to the operators that follow. The plan is
    ``{inputs, interval: {start, end}, partition, reason, params, datasets: [{name, uri, digest, version}],
    base: {version, checkpoint}, skip, version, taken, held, asked}``.
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

    def run(self, context: Context) -> dict[str, Any]:
        """Decide, and leave training out where a version is there already."""
        planned = {**self.code, "plan": self._plan(context)}
        tell_begun(context, planned)
        if planned["plan"]["version"] is None:
            return planned
        skipped = self._training_tasks()
        _forget(context, skipped)
        # A task that ends by this exception returns nothing.
        context["ti"].xcom_push(key="return_value", value=planned)
        raise DownstreamTasksSkipped(tasks=skipped)

    def _plan(self, context: Context) -> dict[str, Any]:
        dag, dag_run = self.get_dag(), context["dag_run"]
        conf = getattr(dag_run, "conf", None) or {}
        refuse_unknown_fields(self.spec, conf, others=dag.params if dag else ())
        given = dict(context.get("params") or {})
        asks = {name: given.get(name) for name in ("base", "reason", "rollout", "version")}
        if asks["rollout"] not in (None, *ROLLOUTS):
            raise ModelwayError(
                f"'{asks['rollout']}' is not a value of rollout", known=ROLLOUTS, given=str(asks["rollout"])
            )
        skip = list(given.get("skip") or [])
        run_stages(self.spec, skip)
        interval = interval_of(context, self.spec)
        params = declared_params(self.spec, given)
        seed = int(self.spec["train"]["seed"] if given.get("seed") is None else given["seed"])
        lineage = self._known_versions(context)
        plan: dict[str, Any] = {
            "inputs": None,
            "interval": interval.to_dict(),
            "partition": interval.partition,
            "reason": asks["reason"] or event_reason(context),
            "params": params,
            "datasets": [],
            "base": None,
            "skip": skip,
            "version": None,
            "taken": None,
            "asked": bool(asks["version"]) or asks["rollout"] == "yes",
        }
        if asks["version"]:
            plan |= {"version": lineage.version(str(asks["version"])), "taken": "the run asks for it"}
        else:
            base = lineage.base(str(asks["base"] or ""), self.spec["train"]["base"], log=self.log)
            datasets = read_datasets(rendered_datasets(self.spec, interval=interval, params=params))
            digest = inputs_digest(
                spec=self.spec,
                code=self.code,
                datasets=datasets,
                interval=interval,
                params=params,
                seed=seed,
                skip=skip,
                base=base["checkpoint"]["digest"] if base else None,
            )
            plan |= {"inputs": digest, "base": base, "datasets": [dataset.to_dict() for dataset in datasets]}
            if self.spec["reuse"] == "same-inputs":
                plan |= self._same_inputs(lineage, digest)
        plan["held"] = blocked_reason(
            lineage,
            rollout=asks["rollout"],
            is_backfill=dag_run.run_type.value == "backfill",
            is_requested=plan["asked"],
            interval=interval,
            run_after=dag_run.run_after,
            reused=plan["version"]["version"] if plan["version"] else None,
        )
        self._tell(plan)
        return plan

    def _known_versions(self, context: Context) -> "KnownVersions":
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.runs.versions import KnownVersions

        settings, dag_run = self.settings, context["dag_run"]
        run = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id}
        return KnownVersions(lineage_from_airflow(settings.lineage_url), settings, model=self.code["model"], **run)

    def _same_inputs(self, lineage: "KnownVersions", digest: str | None) -> dict[str, Any]:
        """Return the version that the same inputs gave before, as parts of a plan; nothing where there is none."""
        if digest is None:
            self.log.warning(
                "a data set has neither a digest nor a version, so nothing tells whether its content is that of an "
                "earlier run: the model is trained. Give the data set a version, or a uri whose store can be asked."
            )
            return {}
        if (own := lineage.own()) is not None:
            self.log.info("this run made version %d before and was cleared: it trains again", own)
            return {}
        if (found := lineage.same_inputs(digest)) is None:
            return {}
        number, run = found
        taken = f"the inputs are those of version {number} (run {run})"
        return {"version": lineage.version(str(number)), "taken": taken}

    def _tell(self, plan: Mapping[str, Any]) -> None:
        """Log what was decided, a line each."""
        start, end = plan["interval"]["start"], plan["interval"]["end"]
        self.log.info("data interval: %s", f"{start} to {end}" if start else f"up to {end}")
        for dataset in plan["datasets"]:
            self.log.info("data set %s: %s %s", dataset["name"], dataset["uri"], dataset["digest"] or "(not known)")
        if plan["params"]:
            self.log.info("parameters: %s", plan["params"])
        if plan["base"]:
            self.log.info("starts from version %d", plan["base"]["version"])
        if plan["version"]:
            self.log.info("takes version %d and trains nothing: %s", plan["version"]["version"], plan["taken"])
        if plan["held"]:
            self.log.info("%s", plan["held"])

    def _training_tasks(self) -> list[str]:
        """Return the tasks that a run leaves out when it takes a version: all between this one and the registering."""
        from modelway.operators.register import RegisterModelOperator

        reached: dict[str, Any] = {}
        waiting = list(self.downstream_list)
        while waiting:
            task = waiting.pop()
            if task.task_id not in reached:
                reached[task.task_id] = task
                # What follows the registering is of this run, or of another model.
                waiting += [] if isinstance(task, RegisterModelOperator) else task.downstream_list
        registering = {name: task for name, task in reached.items() if isinstance(task, RegisterModelOperator)}
        if not registering:
            return sorted(self.downstream_task_ids)
        before = {task.task_id for each in registering.values() for task in each.get_flat_relatives(upstream=True)}
        return sorted(before & reached.keys() - registering.keys())


def _forget(context: Context, tasks: Iterable[str]) -> None:
    """Drop what the tasks returned before the run was cleared.

    Airflow does so for a task that starts, and these do not: an archive of then would be taken for one of now.
    """
    from airflow.sdk.execution_time.xcom import XCom

    ti, dag_run = context["ti"], context["dag_run"]
    for task in tasks:
        if ti.xcom_pull(task_ids=task) is not None:
            XCom.delete(key="return_value", task_id=task, dag_id=dag_run.dag_id, run_id=dag_run.run_id)


def interval_of(context: Context, spec: Mapping[str, Any]) -> Interval:
    """Return the data interval of a run: its own, else the last one of the spec's cron, else all data up to the run."""
    from modelway.hooks.interval import last_interval

    dag_run = context["dag_run"]
    key: str | None = getattr(dag_run, "partition_key", None)
    # The keys are absent where a run has no logical date.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    # A run that the form started has a date, and without a cron an interval from that date to itself.
    if start is not None and end is not None and start < end:
        return Interval.of(start, end, partition=key)
    schedule = spec.get("schedule") or {}
    if schedule.get("cron"):
        last = last_interval(schedule["cron"], schedule["timezone"], before=dag_run.run_after)
        return Interval.of(*last, partition=key)
    return Interval.of(None, dag_run.run_after, partition=key)


def event_reason(context: Context) -> str | None:
    """Return what an asset event that started the run says of its reason; None without one."""
    events: Iterable[Any] = getattr(context["dag_run"], "consumed_asset_events", None) or ()
    told = []
    for event in events:
        reason = (event.extra or {}).get("reason")
        told.append(f"event of {event.asset.uri}" + (f": {reason}" if reason else ""))
    return "; ".join(dict.fromkeys(told)) or None
