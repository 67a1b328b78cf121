"""How requests come to the predictors of an endpoint: what each way of routing must be able to do."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.kubernetes.record import Record, Seat
from modelway.platforms.kubernetes.api import Manifest


class Routing(Protocol):
    """A way of routing; all that it needs to know of an endpoint is in its record."""

    def manifests(self, record: Record) -> list[Manifest]:
        """Return the objects of the routing, without the record itself."""
        ...

    def prepare(self, record: Record, before: Record | None) -> None:
        """Start new predictors, where the routing does that; no request comes to them."""
        ...

    def begin_counting(self, record: Record, fresh: Sequence[str]) -> None:
        """Note the counts as they are where predictors move in, so that only what comes after is theirs."""
        ...

    def apply(self, record: Record) -> None:
        """Record the endpoint and bring all traffic to what the record says, at once.

        :raises EndpointNotReady: it does not come to it in time; then the former record stands again
        """
        ...

    def shift(self, record: Record) -> None:
        """Record other weights and bring all traffic to them, where nothing else changes.

        :raises EndpointNotReady: see :meth:`apply`
        """
        ...

    def restore(self, record: Record) -> None:
        """Bring traffic back to a former record, as far as that goes; :meth:`apply` or :meth:`shift` has failed."""
        ...

    def save(self, record: Record) -> None:
        """Record the endpoint, where traffic does not change."""
        ...

    def wait_empty(self, seat: Seat, *, patience: float) -> None:
        """Wait until a predictor that gets no more requests has answered those it has."""
        ...

    def forget(self, record: Record) -> None:
        """Let go of the addresses of predictors that are no more."""
        ...

    def drift(self, record: Record) -> tuple[str, ...]:
        """Return a phrase for each difference to the record that is in no object of the cluster."""
        ...

    def is_ready(self) -> bool:
        """Whether requests are answered at all."""
        ...

    def problem(self) -> str:
        """Return why they are not, "" where nothing says so."""
        ...

    def metrics(self, record: Record) -> Mapping[str, PredictorMetrics]:
        """Return the counts by the predictors' names.

        :raises EndpointNotReady: when they cannot be read
        """
        ...

    def pages(self, record: Record, path: str) -> Mapping[str, list[str]]:
        """Return what the servers of each predictor answer to a path; "" for one that does not answer.

        :raises EndpointNotReady: when they cannot be read
        """
        ...

    def stop(self, record: Record) -> None:
        """Let no more requests in, and wait until none is being answered."""
        ...
