"""The arguments by which a task runs a job."""

from typing import Any

from airflow.sdk import literal

from modelway.spec.model import Evaluation, ModelSpec, Stage
from modelway.spec.options import options_of


def job_arguments(spec: ModelSpec, job_section: Stage | Evaluation) -> dict[str, Any]:
    """Return the backend and options of a task's job."""
    pool = {} if spec.pool is None else {"pool": spec.pool}
    return {"backend": job_section.backend, "options": literal(options_of(spec, job_section)), **pool}
