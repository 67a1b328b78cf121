"""The failures of a run so far, for messages."""

from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.errors import ModelwayError
from modelway.hooks.lineage import lineage_from_airflow
from modelway.hooks.settings import Settings

if TYPE_CHECKING:
    from modelway.lineage.records.version import FailureRecord


def run_failures(settings: Settings, context: Context) -> "list[FailureRecord]":
    """Return the recorded failures of a run, oldest first; none where the lineage does not answer."""
    dag_run = context["dag_run"]
    try:
        store = lineage_from_airflow(settings.lineage_url)
        accounts = store.accounts_of_run(dag_id=dag_run.dag_id, run_id=dag_run.run_id)
    except ModelwayError:
        return []
    return [failure for account in accounts for failure in account.failures]
