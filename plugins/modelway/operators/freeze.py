"""Freeze the selected checkpoint."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import Manifest, write_archive
from modelway.artifacts.store import Artifact
from modelway.backends.base import ARCHIVES, Job, JobStatus
from modelway.errors import JobFailed
from modelway.job.left_files import NotBelow, is_below, open_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.archive_documents import archive_documents, stage_datasets
from modelway.runs.image_contents import weights_frame
from modelway.runs.job_fields import CheckpointFields, checkpoint_fields, plan_fields
from modelway.runs.messages.checkpoints import reports_from_xcom
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import ArchiveFile, FreezeCost, FrozenModel
from modelway.runs.reported import StoredEvents, cost_of, store_events

#: where freezing leaves its output in the job's folder
FROZEN = "output/archive"


class FreezeModelOperator(JobOperator):
    """Run ``export(job, checkpoint)``, or a command, as one job and store the frozen model as an archive.

    The archive loads without the training code and without pickle: by default an ONNX program, which needs no torch,
    with safetensors weights; golden inputs and outputs; and its provenance. The same code, parameters and checkpoint
    give the same bytes.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param selected: what SelectCheckpointOperator returned
    :param training: the ``report`` of each TrainModelOperator, in order; goes into the archive's record
    :param seed: makes random values in ``export`` repeatable, such as example inputs
    :param format: ``onnx``, ``torch_export`` or ``files``, see docs/freezing.md
    :param command: a program that leaves the model below ``output/export/``, in place of ``export``
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{uri, digest, size, model_digest, files: [{path, size, sha256, role}], description, cost}``, where
    ``description`` is the archive's ``outputs/model.yml`` as an artifact of its own.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "code",
        "selected",
        "training",
        "seed",
        "format",
        "command",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "selected": checks.SELECTED,
        "training": checks.REPORTS,
        "seed": checks.SEED,
        "format": checks.FREEZE_FORMAT,
        "command": checks.COMMAND,
    }

    def __init__(
        self,
        *,
        code: Any,
        selected: Any,
        training: Any = (),
        seed: Any = 0,
        format: str = "onnx",
        command: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.selected = selected
        self.training = training
        self.seed = seed
        self.format = format
        self.command = command
        self.check_arguments()

    def job(self, context: Context) -> Job:
        """Return the freezing job."""
        plan = RunPlan.from_xcom(self.code)
        return Job(
            model=plan.code.model,
            run=run_key(context),
            key=job_key(context),
            stage="freeze",
            action="freeze",
            clear_number=clear_number(context),
            module=plan.code.module,
            command=tuple(self.command) if self.command else None,
            freeze_format=self.format,
            # A parameter of the run may shape the network that export creates.
            params={**plan.params, **(Selection.from_xcom(self.selected).checkpoint.params or {})},
            seed=int(self.seed),
            code=plan.code.artifact,
            **self._inputs(),
            **plan_fields(plan),
        )

    def _inputs(self) -> CheckpointFields:
        """Return the checkpoint and the rows that its evaluation recorded."""
        selected = Selection.from_xcom(self.selected)
        fields = checkpoint_fields({"checkpoint": selected.checkpoint})
        return {**fields, "inputs": {**fields["inputs"], **(selected.rows or {})}}

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Xcom:
        """Write and store the archive."""
        store, code = self.artifacts, RunPlan.from_xcom(self.code).code
        training = [stage for stage in reports_from_xcom(self.training) if not stage.skipped]
        events = StoredEvents(store)
        documents = archive_documents(
            code=code,
            selected=Selection.from_xcom(self.selected),
            training=training,
            datasets=[dataset for stage in training for dataset in stage_datasets(stage, events)],
        )
        # Beside what it is made of: on the store's file system, if the jobs are, it is written once.
        with tempfile.TemporaryDirectory(dir=folder, prefix=ARCHIVES) as scratch:
            archive = Path(scratch) / "archive.zip"
            manifest = archive_frozen(folder, documents=documents, to=archive)
            artifact = store.put(archive, model=job.model, shared=True)
        description = self._store_description(job, folder)
        self.log.info("frozen as %s (%d bytes), model %s", artifact.digest, artifact.size, manifest.model_digest)
        return FrozenModel(
            uri=artifact.uri,
            digest=artifact.digest,
            size=artifact.size,
            model_digest=manifest.model_digest,
            files=tuple(
                ArchiveFile(path=member.path, size=member.size, sha256=member.sha256, role=member.role)
                for member in manifest.members
            ),
            description=description,
            cost=self._cost(job, folder, status),
        ).to_xcom()

    def _store_description(self, job: Job, folder: Path) -> Artifact | None:
        described = f"{FROZEN}/outputs/model.yml"
        if not is_below(folder, described):
            return None
        return self.artifacts.put(folder / described, model=job.model, opened=partial(open_below, folder, described))

    def _cost(self, job: Job, folder: Path, status: JobStatus) -> FreezeCost:
        """Return the cost of freezing, and where its events are, which describe the environment."""
        events = store_events(self.artifacts, folder, model=job.model, warn=self.log.warning)
        cost = cost_of(folder, status=status, options=self.options, backend=self.backend)
        return FreezeCost(**vars(cost), seed=int(self.seed), events=events)


def archive_frozen(folder: Path, *, documents: Mapping[str, Any], to: Path) -> Manifest:
    """Write the archive of the output of freezing, without following links out of the job's folder.

    :raises JobFailed: there is anything but plain files
    """
    try:
        return write_archive(folder=folder, below=FROZEN, documents=documents, to=to, layer_frame=weights_frame)
    except NotBelow as error:
        raise JobFailed(
            f"what freezing left cannot be copied: {error.strerror}: {error.filename}",
            where=str(folder / FROZEN),
            do="Leave plain files there: links may not lead out of the job's folder",
        ) from None
