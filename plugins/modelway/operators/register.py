"""Register a model version."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.store import ArtifactStore
from modelway.errors import ModelwayError
from modelway.hooks.lineage import flush_exporters, lineage_from_airflow
from modelway.job.contract import recorded_datasets
from modelway.lineage.records.version import (
    DatasetRecord,
    EvaluationRecord,
    FileRecord,
    MetricPoint,
    RunRecord,
    VersionRecord,
)
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator, plan_of
from modelway.operators.context import actor
from modelway.operators.find import version_told
from modelway.runs.blocking import outdated_reason
from modelway.runs.inputs import Interval
from modelway.runs.mapped import flat
from modelway.runs.reported import (
    StoredEvents,
    architecture_record,
    figure_records,
    importance_records,
    stage_records,
)


class RegisterModelOperator(ModelwayOperator):
    """Record a model version in the lineage, in one transaction.

    A DAG run makes one version of a model: a retry or a clear finds the version that the run made before. Where the
    run's plan takes a version that was there already, that one is given on, and the lineage says that the run took it.
    An outlet's event tells ``{model, version, reused, digest, model_digest}``, ``digest`` being that of
    the archive.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param training: the ``report`` of each TrainModelOperator, in order
    :param selected: what SelectCheckpointOperator returned
    :param archive: what FreezeModelOperator returned
    :param verified: what VerifyModelOperator returned; a version is registered only after it
    :param spec: the model spec as plain data
    :param alias: an alias to move to the version, ``candidate`` by default

    Returns ``{model, version, archive: {uri, digest, size}, model_digest, held, asked}``, the version as the lineage
    has it. ``held`` says why the run moves neither alias nor traffic, None when it may: by its plan, or because a later
    run has registered a version since. ``asked`` is true when somebody asked for this version, so that it may take over
    from a newer one.
    """

    template_fields: Sequence[str] = ("code", "training", "selected", "archive", "verified", "spec", "alias")
    accepts: ClassVar[Checks] = {
        "code": checks.CODE,
        "training": checks.REPORTS,
        "selected": checks.OPTIONAL_SELECTED,
        "archive": checks.OPTIONAL_ARCHIVE,
        "verified": checks.OPTIONAL_VERIFIED,
        "spec": checks.PARAMS,
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
        self.alias = alias
        self.check_arguments()

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Fill in what the tasks before returned; where training was skipped, its stages left no reports."""
        if not self.render_template(self.archive, context):
            self.training = ()
        super().render_template_fields(context, jinja_env)

    def run(self, context: Context) -> dict[str, Any]:
        """Write the version, or find the one that this run made or takes."""
        settings, store = self.settings, lineage_from_airflow()
        plan = plan_of(self.code)
        # A training task that was skipped and then cleared by hand trained for real: its version is registered.
        taken = plan.get("version") if self.archive is None else None
        held = plan.get("held") or self._outdated(context, settings, store, taken)
        alias = self.alias if held is None else None
        if taken:
            number = self._take(context, store, taken, alias=alias)
        else:
            number = self._register(context, store, self.artifacts, alias=alias)
        known = store.version(self.code["model"], number).summary
        if self.outlets:
            extra = {"model": self.code["model"], "version": number, "reused": bool(taken)}
            extra |= {"digest": known.archive_digest, "model_digest": known.model_digest}
            for asset in self.outlets:
                context["outlet_events"][asset].extra.update(extra)
        flush_exporters()
        return version_told(known, held=held, asked=bool(plan.get("asked")))

    def _outdated(self, context: Context, settings: Any, store: Any, taken: Mapping[str, Any] | None) -> str | None:
        """Return why the run moves nothing although its plan let it: a later run has registered a version since."""
        from modelway.runs.versions import KnownVersions

        plan, dag_run = plan_of(self.code), context["dag_run"]
        if not plan or plan["asked"]:
            return None
        run = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id}
        reason = outdated_reason(
            KnownVersions(store, settings, model=self.code["model"], **run),
            interval=Interval.from_dict(plan["interval"]),
            run_after=dag_run.run_after,
            reused=int(taken["version"]) if taken else None,
        )
        if reason:
            self.log.info("%s", reason)
        return reason

    def _take(self, context: Context, store: Any, taken: Mapping[str, Any], *, alias: str | None) -> int:
        """Give on the version that the plan found, and record that this run took it."""
        plan, dag_run = plan_of(self.code), context["dag_run"]
        model, number = taken["model"], int(taken["version"])
        reason = ": ".join(filter(None, (plan["taken"], plan["reason"])))
        who = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id, "actor": actor(context)}
        if not store.record_reuse(model=model, version=number, **who, reason=reason, alias=alias):
            self._move_when_cleared(context, store, model, number, alias=alias)
        self.log.info("this run takes %s version %d: %s", model, number, reason)
        return number

    def _move_when_cleared(self, context: Context, store: Any, model: str, number: int, *, alias: str | None) -> None:
        """Move the alias for a run that was cleared: once, and where it asks, as one that was held at first may."""
        run_id = context["dag_run"].run_id
        if alias is None or not plan_of(self.code).get("asked"):
            return
        moves = [event for event in store.version(model, number).events if event.kind == "alias-set"]
        if not any(event.run_id == run_id and event.detail["alias"] == alias for event in moves):
            who = {"actor": actor(context), "reason": "the run asks for it", "run_id": run_id}
            store.set_alias(model=model, alias=alias, version=number, **who)

    def _register(self, context: Context, store: Any, artifacts: ArtifactStore, *, alias: str | None) -> int:
        """Write the version, or find the one that this run made."""
        if self.archive is None:
            raise ModelwayError(
                "there is nothing to register: no task froze a model, and the plan takes no version",
                do="Run FreezeModelOperator before it",
            )
        training = [stage for stage in flat(self.training) if not stage.get("skipped")]
        events = StoredEvents(artifacts)
        run = run_record(context, code=self.code, training=training, spec=self.spec or {}, events=events)
        reported: dict[str, Any] = {"training": training, "selected": self.selected, "events": events.of}
        run = replace(
            run,
            stages=stage_records(**{**reported, "training": flat(self.training)}, archive=self.archive),
            figures=figure_records(**reported, warn=self.log.warning),
            importances=importance_records(**reported),
        )
        record = version_record(
            run=run,
            code=self.code,
            training=training,
            selected=self.selected,
            archive=self.archive,
            events=events,
            alias=alias,
            verified=self.verified,
        )
        before = store.version_of_run(record.model, dag_id=record.run.dag_id, run_id=record.run.run_id)
        number = store.register(record)
        if before is not None:
            self.log.info("this run made version %d before; no second version is registered", number)
            if store.version(record.model, number).summary.archive_digest != record.archive_digest:
                self.log.warning("the archive made now differs from the version's and is not used")
            self._move_when_cleared(context, store, record.model, number, alias=alias)
        else:
            self.log.info("registered %s version %d", record.model, number)
        return int(number)


def run_record(
    context: Context,
    *,
    code: Mapping[str, Any],
    training: Sequence[Mapping[str, Any]],
    spec: Mapping[str, Any],
    events: StoredEvents,
) -> RunRecord:
    """Return who ran what, when, why, from which code and which data, and what it took."""
    dag_run, plan = context["dag_run"], plan_of(code)
    interval = plan.get("interval", {})
    start, end = (datetime.fromisoformat(interval[side]) if interval.get(side) else None for side in ("start", "end"))
    known = [stage for stage in training if stage.get("seconds") is not None]
    return RunRecord(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        actor=actor(context),
        run_type=dag_run.run_type.value,
        started_at=dag_run.start_date,
        code_digest=code["digest"],
        code_uri=code["uri"],
        code_size=code["size"],
        **code["commit"],
        spec=spec,
        seed=training[0]["seed"] if training else None,
        inputs_digest=plan.get("inputs"),
        interval_start=start,
        interval_end=end,
        partition=plan.get("partition"),
        run_after=dag_run.run_after,
        reason=plan.get("reason"),
        seconds=sum(stage["seconds"] for stage in known) if known else None,
        gpu_seconds=sum(stage["seconds"] * stage.get("gpu", 0) for stage in known) if known else None,
        datasets=tuple(dataset for stage in training for dataset in _datasets(events, stage)),
    )


def version_record(
    *,
    run: RunRecord,
    code: Mapping[str, Any],
    training: Sequence[Mapping[str, Any]],
    selected: Mapping[str, Any],
    archive: Mapping[str, Any],
    events: StoredEvents,
    alias: str | None,
    verified: Mapping[str, Any] | None = None,
) -> VersionRecord:
    """Return the whole record of a version; the metrics of training are read from the stages' stored events."""
    chosen, base = selected["checkpoint"], plan_of(code).get("base")
    return VersionRecord(
        model=code["model"],
        description=str(run.spec.get("description", "")),
        run=run,
        archive_uri=archive["uri"],
        archive_digest=archive["digest"],
        archive_size=archive["size"],
        model_digest=archive["model_digest"],
        checkpoint=chosen["id"],
        checkpoint_digest=chosen["digest"],
        checkpoint_uri=chosen.get("uri"),
        alias=alias,
        verification=verified if isinstance(verified, Mapping) else None,
        base=int(base["version"]) if base else None,
        architecture=architecture_record(events.json(archive.get("description"))),
        metrics=selected["metrics"],
        evaluations=[
            EvaluationRecord(
                checkpoint=each["checkpoint"],
                metrics=each["metrics"] | {name: float(text) for name, text in each["not_finite"].items()},
                note=each.get("left_out", ""),
                **{key: each.get(key) for key in ("digest", "stage", "step", "seconds", "startup_seconds")},
            )
            for each in selected["evaluations"]
        ],
        params={stage["stage"]: stage["params"] for stage in training},
        points=[point for stage in training for point in _points(events, stage)],
        files=[
            FileRecord(path=file["path"], digest=f"sha256:{file['sha256']}", size=file["size"], role=file["role"])
            for file in archive["files"]
        ],
    )


def _datasets(events: StoredEvents, stage: Mapping[str, Any]) -> list[DatasetRecord]:
    """Return the data sets that a stage was given or said it read."""
    return [DatasetRecord(stage=stage["stage"], **each) for each in recorded_datasets(events.of(stage))]


def _points(events: StoredEvents, stage: Mapping[str, Any]) -> list[MetricPoint]:
    """Return the metrics a stage logged; one logged again after a resume counts as last logged."""
    logged = [event for event in events.of(stage) if event["kind"] == "metric"]
    last = {(event["name"], event["step"]): float(event["value"]) for event in logged}
    return [
        MetricPoint(stage=stage["stage"], name=name, step=step, value=value) for (name, step), value in last.items()
    ]
