"""The sign of life of a rollout whose task is deferred for long: nothing else is recorded of it meanwhile."""

import logging
import time

from modelway.following.rollouts import LIFE_SECONDS, show_life
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.lineage import lineage_from_airflow

_LOG = logging.getLogger(__name__)


class SignOfLife:
    """Writes a rollout's record as it is, now and again."""

    def __init__(self, *, endpoint: str, run: str) -> None:
        """Write nothing yet.

        :param endpoint: the endpoint's name
        :param run: the key of the DAG run whose rollout it is
        """
        self.endpoint, self.run = endpoint, run
        self._due_at = 0.0

    async def show(self) -> None:
        """Write it when it is due; where that fails, the log says so."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + LIFE_SECONDS
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        try:
            await sync_to_async(self._write)()
        except Exception as error:
            _LOG.warning("the rollout is not written now: %s: %s", type(error).__name__, error)

    def _write(self) -> None:
        store = lineage_from_airflow(settings_from_airflow().lineage_url)
        show_life(store, endpoint=self.endpoint, run=self.run)
