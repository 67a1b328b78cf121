"""What Airflow knows about a run."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What Airflow knows about a run."""

    dag_id: str
    run_id: str
    actor: str
    run_type: str
    started_at: datetime | None
    run_after: datetime
