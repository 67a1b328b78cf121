"""The lineage as Airflow's processes and commands open it, and the exporters that receive what is written to it."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelway.hooks.connection import exporters_from_airflow, lineage_url_from_airflow
from modelway.hooks.settings import load_exporters, load_settings

if TYPE_CHECKING:
    from modelway.lineage.exporters.base import Destination
    from modelway.lineage.store import Lineage

#: how long flushing may delay a task
SECONDS = 10.0

_log = logging.getLogger(__name__)


def lineage_from_airflow(url: str | None = None) -> "Lineage":
    """Return the lineage; what is written goes to the configured exporters, too.

    :param url: where it is, when the caller knows it from its settings; default: see ``lineage_url_from_airflow``
    :raises ModelwayError: the lineage cannot be opened, or a connection cannot be read
    """
    return _open(url or lineage_url_from_airflow(), _destinations())


def lineage_from_environment() -> "Lineage":
    """Return the lineage as commands write it: what is written goes to the exporters of the environment, too.

    :raises ModelwayError: the lineage cannot be opened
    """
    return _open(load_settings().lineage_url, load_exporters())


def _open(url: str, destinations: "Sequence[Destination]") -> "Lineage":
    from modelway.lineage.store import open_lineage

    return open_lineage(url, exporters=[destination.exporter for destination in destinations])


def _destinations() -> "Sequence[Destination]":
    try:
        return exporters_from_airflow()
    except Exception as error:
        _log.warning("nothing is exported: %s: %s", type(error).__name__, error)
        return ()


def flush_exporters(*, before: "Callable[[Lineage], object] | None" = None, seconds: float = SECONDS) -> None:
    """Send what is pending for the exporters; any failure is a warning, and what was not sent stays pending.

    :param before: called first with the lineage, to record one more fact; not called where no exporter is configured
    """
    try:
        if not (destinations := exporters_from_airflow()):
            return
        lineage = _open(lineage_url_from_airflow(), destinations)
        if before is not None:
            before(lineage)
        for delivery in lineage.exports.flush(destinations, seconds=seconds):
            if delivery.sent or delivery.refused:
                _log.info("%s: %d sent, %d refused", delivery.exporter, delivery.sent, delivery.refused)
            if delivery.error:
                _log.warning(
                    "%s The rest waits: modelway exports shows it, and the next run tries again.", delivery.error
                )
    except Exception as error:
        _log.warning("the exporters receive nothing: %s: %s", type(error).__name__, error)
