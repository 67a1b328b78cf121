"""Register a model version."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.hooks.connection import settings_from_airflow
from modelway.job.contract import read_events
from modelway.lineage.record import EvaluationRecord, FileRecord, MetricPoint, RunRecord, VersionRecord
from modelway.operators._base import ModelwayOperator, actor, store_from


class RegisterModelOperator(ModelwayOperator):
    """Record a model version in the lineage, in one transaction.

    A DAG run makes one version of a model: a retry or a clear finds the version that the run made before.

    :param code: what PackageCodeOperator returned
    :param training: the ``report`` of each TrainModelOperator, in order
    :param selected: what SelectCheckpointOperator returned
    :param archive: what FreezeModelOperator returned
    :param verified: what VerifyModelOperator returned; a version is registered only after it
    :param spec: the model spec as plain data
    :param alias: an alias to move to the version, ``candidate`` by default

    Returns ``{model, version, archive: {uri, digest, size}, model_digest}`` as the lineage has them.
    """

    template_fields: Sequence[str] = ("code", "training", "selected", "archive", "verified", "spec", "alias")

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

    def run(self, context: Context) -> dict[str, Any]:
        """Write the version, or find the one that this run made."""
        from modelway.lineage.store import open_store

        settings = settings_from_airflow()
        record = version_record(
            run=run_record(context, code=self.code, training=list(self.training), spec=self.spec or {}),
            code=self.code,
            training=list(self.training),
            selected=self.selected,
            archive=self.archive,
            store=store_from(settings),
            alias=self.alias,
        )
        store = open_store(settings.lineage_url)
        before = store.version_of_run(record.model, dag_id=record.run.dag_id, run_id=record.run.run_id)
        number = store.register(record)
        known = store.version(record.model, number).summary
        if before is not None:
            self.log.info("this run made version %d before; no second version is registered", number)
            if known.archive_digest != record.archive_digest:
                self.log.warning("the archive made now differs from the version's and is not used")
        else:
            self.log.info("registered %s version %d", record.model, number)
        archive = Artifact(uri=known.archive_uri, digest=known.archive_digest, size=known.archive_size)
        return {
            "model": record.model,
            "version": number,
            "archive": archive.to_dict(),
            "model_digest": known.model_digest,
        }


def run_record(
    context: Context, *, code: Mapping[str, Any], training: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]
) -> RunRecord:
    """Return who ran what, when and from which code."""
    dag_run = context["dag_run"]
    return RunRecord(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        actor=actor(context),
        run_type=dag_run.run_type.value,
        started_at=dag_run.start_date,
        code_digest=code["digest"],
        **code["commit"],
        spec=spec,
        seed=training[0]["seed"] if training else None,
    )


def version_record(
    *,
    run: RunRecord,
    code: Mapping[str, Any],
    training: Sequence[Mapping[str, Any]],
    selected: Mapping[str, Any],
    archive: Mapping[str, Any],
    store: ArtifactStore,
    alias: str | None,
) -> VersionRecord:
    """Return the whole record of a version; the metrics of training are read from the stages' stored events."""
    chosen = selected["checkpoint"]
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
        alias=alias,
        metrics=selected["metrics"],
        evaluations=[
            EvaluationRecord(
                checkpoint=each["checkpoint"],
                metrics=each["metrics"] | {name: float(text) for name, text in each["not_finite"].items()},
                note=each.get("left_out", ""),
                **{key: each[key] for key in ("digest", "stage", "step")},
            )
            for each in selected["evaluations"]
        ],
        params={stage["stage"]: stage["params"] for stage in training},
        points=[point for stage in training for point in _points(store, stage)],
        files=[
            FileRecord(path=file["path"], digest=f"sha256:{file['sha256']}", size=file["size"], role=file["role"])
            for file in archive["files"]
        ],
    )


def _points(store: ArtifactStore, stage: Mapping[str, Any]) -> list[MetricPoint]:
    """Return the metrics a stage logged; one logged again after a resume counts as last logged."""
    with tempfile.TemporaryDirectory() as scratch:
        store.fetch(Artifact.from_dict(stage["events"]), to=Path(scratch) / "events.jsonl")
        events = read_events(Path(scratch))
    last = {(event["name"], event["step"]): float(event["value"]) for event in events if event["kind"] == "metric"}
    return [
        MetricPoint(stage=stage["stage"], name=name, step=step, value=value) for (name, step), value in last.items()
    ]
