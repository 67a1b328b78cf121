"""Our figures among Airflow's metrics, which go where ``[metrics]`` of Airflow's configuration says.

Names begin with ``modelway.``; what they are about is in tags. A figure that cannot be sent fails nothing.
"""

import logging
from datetime import timedelta

_log = logging.getLogger(__name__)


def count(name: str, number: int = 1, **tags: object) -> None:
    """Count events of the task that runs in this process."""
    _send("incr", name, (number,), tags)


def timing(name: str, seconds: float, **tags: object) -> None:
    """Send how long something of the task that runs in this process took."""
    _send("timing", name, (timedelta(seconds=max(0.0, seconds)),), tags)


def gauge(name: str, value: float, **tags: object) -> None:
    """Send how large something is now."""
    _send("gauge", name, (value,), tags)


def _send(kind: str, name: str, values: tuple[object, ...], tags: dict[str, object]) -> None:
    try:
        from airflow.sdk.observability import stats

        known = {key: str(value) for key, value in tags.items() if value}
        getattr(stats, kind)(f"modelway.{name}", *values, tags=known)
    except Exception as error:
        _log.debug("the metric %s is not sent: %s: %s", name, type(error).__name__, error)
