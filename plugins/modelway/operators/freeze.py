"""Freeze the selected checkpoint."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import Artifact
from modelway.backends.base import Job, JobStatus
from modelway.errors import JobFailed
from modelway.job.contract import read_events, recorded_datasets
from modelway.job.left_files import NotBelow, copy_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import code_of, plan_of
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator, checkpoint_inputs, planned_inputs
from modelway.runs.mapped import flat
from modelway.runs.reported import cost_of, store_events


class FreezeModelOperator(JobOperator):
    """Run ``export(job, checkpoint)`` as one job and store the frozen model as an archive.

    The archive loads without the training code, torch or pickle: an ONNX program, safetensors weights, golden inputs
    and outputs, and what it was made of. The same code, parameters and checkpoint give the same bytes.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param selected: what SelectCheckpointOperator returned
    :param training: the ``report`` of each TrainModelOperator, in order; goes into the archive's record
    :param seed: makes what ``export`` draws at random repeatable, such as example inputs
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{uri, digest, size, model_digest, files: [{path, size, sha256, role}], description, cost}``, where
    ``description`` is the archive's ``outputs/model.yml`` as an artifact of its own.
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "code", "selected", "training", "seed")
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "selected": checks.SELECTED,
        "training": checks.REPORTS,
        "seed": checks.SEED,
    }

    def __init__(self, *, code: Any, selected: Any, training: Any = (), seed: Any = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.selected = selected
        self.training = training
        self.seed = seed
        self.check_arguments()

    def job(self, context: Context) -> Job:
        """Return the freezing job."""
        return Job(
            model=self.code["model"],
            run=run_key(context),
            key=job_key(context),
            stage="freeze",
            action="freeze",
            clear_number=clear_number(context),
            module=self.code["module"],
            # A parameter of the run may shape the network that export makes.
            params=plan_of(self.code).get("params", {}),
            seed=int(self.seed),
            code=code_of(self.code),
            **self._given(),
        )

    def _given(self) -> dict[str, Any]:
        """Return the checkpoint, the rows that its evaluation recorded and the run's data, as fields of ``Job``."""
        given = checkpoint_inputs({"checkpoint": self.selected["checkpoint"]})
        rows = {name: Artifact.from_dict(artifact) for name, artifact in self.selected.get("rows", {}).items()}
        return {**given, "inputs": {**given["inputs"], **rows}, **planned_inputs(self.code)}

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> dict[str, Any]:
        """Write and store the archive."""
        store = self.artifacts
        with tempfile.TemporaryDirectory() as scratch:
            frozen = Path(scratch) / "frozen"
            _take(folder, to=frozen)
            training = [stage for stage in flat(self.training) if not stage.get("skipped")]
            datasets = [event for stage in training for event in _datasets(store, stage, Path(scratch))]
            documents = archive_documents(code=self.code, selected=self.selected, training=training, datasets=datasets)
            manifest = write_archive(folder=frozen, documents=documents, to=Path(scratch) / "archive.zip")
            artifact = store.put(Path(scratch) / "archive.zip", model=job.model)
            described = frozen / "outputs" / "model.yml"
            description = store.put(described, model=job.model).to_dict() if described.is_file() else None
        self.log.info("frozen as %s (%d bytes), model %s", artifact.digest, artifact.size, manifest.model_digest)
        files = [vars(member) for member in manifest.members]
        told = {"model_digest": manifest.model_digest, "files": files, "description": description}
        return {**artifact.to_dict(), **told, "cost": self._cost(store, job, folder, status)}

    def _cost(self, store: Any, job: Job, folder: Path, status: JobStatus) -> dict[str, Any]:
        """Return what freezing took, and where it is told what it ran in."""
        events = store_events(store, folder, model=job.model, warn=self.log.warning)
        stored = events.to_dict() if events else None
        cost = cost_of(folder, status=status, options=self.options)
        return {**cost, "backend": self.backend, "seed": int(self.seed), "events": stored}


def _take(folder: Path, *, to: Path) -> None:
    """Copy what freezing left, and nothing that a link elsewhere leads to.

    :raises JobFailed: there is something else than plain files
    """
    try:
        copy_below(folder, "output/archive", to=to)
    except NotBelow as error:
        raise JobFailed(
            f"what freezing left cannot be taken: {error.strerror}: {error.filename}",
            where=str(folder / "output" / "archive"),
            do="Leave plain files there: links may not lead out of the job's folder",
        ) from None


def archive_documents(
    *,
    code: Mapping[str, Any],
    selected: Mapping[str, Any],
    training: Sequence[Mapping[str, Any]],
    datasets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the archive's documents by member name; nothing in them differs between two equal runs."""
    checkpoint = selected["checkpoint"]
    return {
        "inputs/git_commit.yml": {
            # Where the commit can be had differs between checkouts of it.
            **{name: value for name, value in code["commit"].items() if name != "repository"},
            "code_digest": code["digest"],
            "checkpoint": {key: checkpoint[key] for key in ("id", "stage", "step", "digest", "size")},
        },
        "inputs/run_config.yml": {
            "module": code["module"],
            "stages": [{"name": stage["stage"], "seed": stage["seed"]} for stage in training],
        },
        "inputs/training.yml": {
            "stages": [{"name": stage["stage"], "params": stage["params"]} for stage in training],
            "datasets": list(datasets),
        },
        "outputs/meta.yml": {"name": code["model"], "chosen_by": selected["rule"]},
        "outputs/summary.json": {
            "chosen": checkpoint["id"],
            "rule": selected["rule"],
            "metrics": selected["metrics"],
            # How long they took differs from run to run.
            "evaluations": [
                {name: value for name, value in each.items() if name not in ("seconds", "startup_seconds")}
                for each in selected["evaluations"]
            ],
        },
    }


def _datasets(store: Any, stage: Mapping[str, Any], scratch: Path) -> list[dict[str, Any]]:
    events = scratch / stage["stage"]
    store.fetch(Artifact.from_dict(stage["events"]), to=events / "events.jsonl")
    return [{"stage": stage["stage"], **dataset} for dataset in recorded_datasets(read_events(events))]
