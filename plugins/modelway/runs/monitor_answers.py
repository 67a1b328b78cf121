"""Whether what the monitor checks answers, as the lineage has it for the pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from modelway.endpoints.base import EndpointStatus
from modelway.errors import EndpointNotReady
from modelway.lineage.records.monitoring import Unanswered

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


@contextmanager
def answering(store: "Lineage", model: str, endpoint: str, now: datetime) -> Iterator[None]:
    """Record that the endpoint does not answer, before what the block raises for that is passed on."""
    try:
        yield
    except EndpointNotReady as error:
        store.monitoring.record_unanswered(endpoint, model=model, found=Unanswered(since=now, reason=str(error)))
        raise


def unanswered(status: EndpointStatus, now: datetime) -> Unanswered:
    """Return what of an endpoint that is not ready does not answer."""
    if not status.gateway_ready:
        reason = f"the gateway does not answer {status.problem}".strip()
    else:
        silent = [each for each in status.predictors if each.weight and not each.ready]
        reason = ", ".join(f"version {each.version} does not answer {each.problem}".strip() for each in silent)
    return Unanswered(since=now, reason=reason, in_part=status.ready_in_part)
