"""The lineage as Airflow's processes open it, and those who are told what it learns."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelway.hooks.connection import exporters_from_airflow, lineage_url_from_airflow

if TYPE_CHECKING:
    from modelway.lineage.store import LineageStore

#: what telling others may take of a task's time
SECONDS = 10.0

_log = logging.getLogger(__name__)


def open_lineage() -> "LineageStore":
    """Return the lineage; what is written is kept for the configured exporters, too.

    :raises ModelwayError: the lineage cannot be opened, or a connection cannot be read
    """
    from modelway.lineage.store import open_store

    return open_store(lineage_url_from_airflow(), exporters=_exporters())


def _exporters() -> list[str]:
    try:
        return [destination.exporter for destination in exporters_from_airflow()]
    except Exception as error:
        _log.warning("the exporters are told nothing: %s: %s", type(error).__name__, error)
        return []


def tell_exporters(*, keep: "Callable[[LineageStore], object] | None" = None, seconds: float = SECONDS) -> None:
    """Send what waits for the exporters; whatever goes wrong is a warning, and what was not sent waits.

    :param keep: called before with the lineage, to keep one more fact; not called where nobody is told anything
    """
    try:
        if not (destinations := exporters_from_airflow()):
            return
        from modelway.lineage.export.delivery import flush

        store = open_lineage()
        if keep is not None:
            keep(store)
        for told in flush(store.engine, destinations, seconds=seconds):
            if told.sent or told.refused:
                _log.info("%s: %d told, %d refused", told.exporter, told.sent, told.refused)
            if told.error:
                _log.warning("%s The rest waits: modelway exports shows it, and the next run tries again.", told.error)
    except Exception as error:
        _log.warning("the exporters are not told: %s: %s", type(error).__name__, error)
