"""Register a model version."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import RunFolders
from modelway.errors import ModelwayError
from modelway.hooks.backend import backend_from_airflow
from modelway.hooks.lineage import flush_exporters, lineage_from_airflow
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import actor, run_facts, run_key
from modelway.runs.blocking import outdated_reason
from modelway.runs.messages.candidates import Sweep
from modelway.runs.messages.checkpoints import reports_from_xcom
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import FrozenModel, KnownVersion, RegisteredVersion, VerifiedModel
from modelway.runs.reported import StoredEvents

if TYPE_CHECKING:
    from modelway.lineage.records.version import VersionRecord
    from modelway.lineage.store import Lineage


class RegisterModelOperator(ModelwayOperator):
    """Record a model version in the lineage, in one transaction.

    A DAG run makes one version of a model: a retry or a clear finds the version that the run made before. Where the
    run's plan reuses an existing version, that one is returned, and the lineage records the reuse.
    An outlet's event has ``{model, version, reused, digest, model_digest}``, ``digest`` being that of
    the archive.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param training: the ``report`` of each TrainModelOperator, in order
    :param selected: what SelectCheckpointOperator returned
    :param archive: what FreezeModelOperator returned
    :param verified: what VerifyModelOperator returned; a version is registered only after it
    :param spec: the model spec as plain data
    :param sweep: the ``sweep`` of SelectCandidateOperator, where several candidates were trained
    :param alias: an alias to move to the version, ``candidate`` by default

    Returns ``{model, version, archive: {uri, digest, size}, model_digest, blocked_reason, requested}``, the version as
    the lineage has it. ``blocked_reason`` says why the run moves neither alias nor traffic, None when it may: by its
    plan, because a later run has registered a version since, or because it misses a gate that compares with a version.
    ``requested`` is true when somebody requested this version, so that it may take over from a newer one.
    """

    template_fields: Sequence[str] = ("code", "training", "selected", "archive", "verified", "spec", "sweep", "alias")
    accepts: ClassVar[Checks] = {
        "code": checks.CODE,
        "training": checks.REPORTS,
        "selected": checks.OPTIONAL_SELECTED,
        "archive": checks.OPTIONAL_ARCHIVE,
        "verified": checks.OPTIONAL_VERIFIED,
        "spec": checks.PARAMS,
        "sweep": checks.SWEEP,
        "alias": checks.ALIAS,
    }

    def __init__(
        self,
        *,
        code: Any,
        training: Any,
        selected: Any,
        archive: Any,
        verified: Any,
        spec: Any = None,
        sweep: Any = None,
        alias: str = "candidate",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.training = training
        self.selected = selected
        self.archive = archive
        self.verified = verified
        self.spec = spec
        self.sweep = sweep
        self.alias = alias
        self.check_arguments()

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Fill in the results of the tasks before; where training was skipped, its stages have no reports."""
        if not self.render_template(self.archive, context):
            self.training, self.sweep = (), None
        super().render_template_fields(context, jinja_env)

    def run(self, context: Context) -> Xcom:
        """Write the version, or find the one that this run made or reuses."""
        plan, store = RunPlan.from_xcom(self.code), lineage_from_airflow()
        # A training task that was skipped and then cleared by hand did train: its version is registered.
        reused = plan.version if self.archive is None else None
        reason = plan.blocked_reason or self._outdated(context, plan, store, reused) or self._worse(reused)
        alias = self.alias if reason is None else None
        if reused:
            number = self._reuse(context, plan, store, reused, alias=alias)
        else:
            number = self._register(context, plan, store, alias=alias)
            self._keep_or_remove(context, plan, store, number)
        known = store.version(plan.code.model, number).summary
        for asset in self.outlets:
            context["outlet_events"][asset].extra.update(
                model=plan.code.model,
                version=number,
                reused=reused is not None,
                digest=known.archive_digest,
                model_digest=known.model_digest,
            )
        flush_exporters()
        return RegisteredVersion.of(known, blocked_reason=reason, requested=plan.requested).to_xcom()

    def _outdated(self, context: Context, plan: RunPlan, store: "Lineage", reused: KnownVersion | None) -> str | None:
        """Return why the run moves nothing although its plan allowed it: a later run has registered a version since."""
        from modelway.runs.versions import KnownVersions

        if plan.interval is None or plan.requested:
            return None
        dag_run = context["dag_run"]
        run = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id}
        reason = outdated_reason(
            KnownVersions(store, self.settings, model=plan.code.model, **run),
            interval=plan.interval,
            run_after=dag_run.run_after,
            reused=reused.version if reused else None,
        )
        if reason:
            self.log.info("%s", reason)
        return reason

    def _worse(self, reused: KnownVersion | None) -> str | None:
        """Return why a version that misses a gate which compares with another one moves nothing."""
        from modelway.runs.gates import worse_reason

        if reused or not self.verified:
            return None
        reason = worse_reason(VerifiedModel.from_xcom(self.verified).report.get("comparisons") or ())
        if reason:
            self.log.warning("%s", reason)
        return reason

    def _reuse(
        self, context: Context, plan: RunPlan, store: "Lineage", reused: KnownVersion, *, alias: str | None
    ) -> int:
        """Return the version that the plan found, and record that this run reused it."""
        dag_run, number = context["dag_run"], reused.version
        reason = ": ".join(filter(None, (plan.reuse_reason, plan.reason)))
        run = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id, "actor": actor(context)}
        if not store.record_reuse(model=reused.model, version=number, **run, reason=reason, alias=alias):
            self._move_when_cleared(context, plan, store, number, alias=alias)
        self.log.info("this run reuses %s version %d: %s", reused.model, number, reason)
        return number

    def _move_when_cleared(
        self, context: Context, plan: RunPlan, store: "Lineage", number: int, *, alias: str | None
    ) -> None:
        """Move the alias for a run that was cleared: once, and if requested, as in a run that was blocked at first."""
        run_id, model = context["dag_run"].run_id, plan.code.model
        if alias is None or not plan.requested:
            return
        moves = [event for event in store.version(model, number).events if event.kind == "alias-set"]
        if not any(event.run_id == run_id and event.detail["alias"] == alias for event in moves):
            why = {"actor": actor(context), "reason": "the run requests it", "run_id": run_id}
            store.set_alias(model=model, alias=alias, version=number, **why)

    def _register(self, context: Context, plan: RunPlan, store: "Lineage", *, alias: str | None) -> int:
        """Write the version, or find the one that this run made."""
        record = self._record(context, plan, store, alias=alias)
        before = store.version_of_run(record.model, dag_id=record.run.dag_id, run_id=record.run.run_id)
        number = store.register(record)
        if before is not None:
            self.log.info("this run made version %d before; no second version is registered", number)
            if store.version(record.model, number).summary.archive_digest != record.archive_digest:
                self.log.warning("the archive made now differs from the version's and is not used")
            self._move_when_cleared(context, plan, store, number, alias=alias)
        else:
            self.log.info("registered %s version %d", record.model, number)
        return number

    def _keep_or_remove(self, context: Context, plan: RunPlan, store: "Lineage", number: int) -> None:
        """Remove what no later task of the run needs, by the rule ``keep`` of the spec; failing to is no failure."""
        from modelway.lineage.records.kept import KeepRule
        from modelway.runs.keep import remove_unselected

        model = plan.code.model
        if not self.spec:
            return
        rule = KeepRule.of(self.spec)
        for name in () if rule.seconds else self._backends():
            self._discard_jobs(name, model=model, run=run_key(context))
        try:
            if self._others_run(context):
                self.log.info("another run of the model may use its checkpoints: modelway gc removes them later")
                return
            removed = remove_unselected(
                self.artifacts,
                store,
                version=(model, number),
                selected=Selection.from_xcom(self.selected),
                rule=rule,
                actor=actor(context),
                run_id=context["dag_run"].run_id,
            )
            for file in removed:
                self.log.info("removed a checkpoint that was not selected: %s, %d bytes", file.digest, file.size)
        except Exception as error:  # the version is registered: what stays is left to modelway gc
            self.log.warning("what this run leaves besides its version could not be removed: %s", error)

    def _discard_jobs(self, name: str, *, model: str, run: str) -> None:
        """Remove what the run's jobs left on a backend; failing to is no failure."""
        try:
            backend = backend_from_airflow(name, home=self.settings.home)
            if isinstance(backend, RunFolders):
                freed = backend.discard(model=model, run=run, storage=(self.spec or {}).get("storage"))
                self.log.info("%s bytes of this run's finished jobs are removed (%s)", f"{freed:,}", name)
        except Exception as error:  # the version is registered
            self.log.warning("what the run's jobs left on %s could not be removed: %s", name, error)

    def _backends(self) -> set[str]:
        """Return the backends of the run's jobs, as far as their reports say."""
        costs = [*reports_from_xcom(self.training), Selection.from_xcom(self.selected).cost]
        costs.append(FrozenModel.from_xcom(self.archive).cost)
        return {cost.backend for cost in costs if cost and cost.backend}

    def _others_run(self, context: Context) -> bool:
        """Return whether another run of the DAG is running, or that cannot be known."""
        ti = context["ti"]
        try:
            return ti.get_dr_count(dag_id=ti.dag_id, states=["running"]) > 1
        except Exception as error:  # the API server does not answer
            self.log.info("whether other runs are running is not known: %s", error)
            return True

    def _record(self, context: Context, plan: RunPlan, store: "Lineage", *, alias: str | None) -> "VersionRecord":
        """Return the record of the version that the run made."""
        from modelway.runs.record import run_record, version_record, with_candidates
        from modelway.runs.reported_records import figure_records, importance_records, stage_records

        if self.archive is None:
            raise ModelwayError(
                "there is nothing to register: no task froze a model, and the plan reuses no version",
                do="Run FreezeModelOperator before it",
            )
        reports, selected = reports_from_xcom(self.training), Selection.from_xcom(self.selected)
        training = [stage for stage in reports if not stage.skipped]
        frozen, events = FrozenModel.from_xcom(self.archive), StoredEvents(self.artifacts)
        run = run_record(run_facts(context), plan=plan, training=training, spec=self.spec or {}, events=events)
        run = replace(
            run,
            stages=stage_records(training=reports, selected=selected, frozen=frozen, events=events.of),
            figures=figure_records(training=training, selected=selected, events=events.of, warn=self.log.warning),
            importances=importance_records(training=training, selected=selected, events=events.of),
        )
        if self.sweep is not None:
            accounts = store.accounts_of_run(dag_id=run.dag_id, run_id=run.run_id)
            failures = [each for account in accounts if account.model == plan.code.model for each in account.failures]
            run = with_candidates(run, Sweep.from_xcom(self.sweep), failures=failures)
        return version_record(
            run=run,
            plan=plan,
            training=training,
            selected=selected,
            frozen=frozen,
            events=events,
            alias=alias,
            verified=VerifiedModel.from_xcom(self.verified) if self.verified is not None else None,
        )
