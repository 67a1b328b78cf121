"""Evaluate one checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from modelway.artifacts.store import Artifact
from modelway.backends.base import Job, JobStatus
from modelway.job.contract import finite_metrics
from modelway.operators._base import JobOperator, clear_number, code_of, job_key, plan_of, planned_inputs, run_key


class EvaluateCheckpointOperator(JobOperator):
    """Run ``evaluate(job, checkpoint)`` of the model's code, or a command, as one job.

    Expand it over the checkpoints of a stage: ``.partial(code=…).expand(checkpoint=train.output)``.
    A checkpoint that is damaged or cannot be loaded fails its own task and no other.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param checkpoint: one of the checkpoints that TrainModelOperator returned
    :param job_params: the parameters that the code finds in ``job.params``
    :param seed: makes the evaluation repeatable
    :param command: a program that writes ``output/metrics.json``, in place of ``evaluate``
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{checkpoint: id, metrics: {name: number or None}, not_finite: {name: text}}``; NaN and the infinities are
    None among the metrics, since XCom cannot carry them, and ``nan``, ``inf`` or ``-inf`` in ``not_finite``.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "code",
        "checkpoint",
        "job_params",
        "seed",
        "command",
    )

    def __init__(
        self,
        *,
        code: Any,
        checkpoint: Any,
        job_params: Any = None,
        seed: Any = 0,
        command: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.checkpoint = checkpoint
        self.job_params = job_params
        self.seed = seed
        self.command = command

    def job(self, context: Context) -> Job:
        """Return the evaluation job."""
        return Job(
            model=self.code["model"],
            run=run_key(context),
            key=job_key(context, item=self.checkpoint["id"]),
            stage=f"evaluate {self.checkpoint['id']}",
            action="evaluate",
            clear_number=clear_number(context),
            module=self.code["module"],
            command=tuple(self.command) if self.command else None,
            params={**plan_of(self.code).get("params", {}), **(self.job_params or {})},
            seed=int(self.seed),
            code=code_of(self.code),
            inputs={"checkpoint": Artifact.from_dict(self.checkpoint)},
            **planned_inputs(self.code),
        )

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> dict[str, Any]:
        """Return the metrics that the job wrote."""
        given = json.loads((folder / "output" / "metrics.json").read_text())
        metrics = finite_metrics(given)
        return {
            "checkpoint": self.checkpoint["id"],
            "metrics": metrics,
            "not_finite": {name: str(given[name]) for name, value in metrics.items() if value is None},
        }
