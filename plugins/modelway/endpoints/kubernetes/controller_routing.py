"""What every routing by a controller of somebody else has in common: one object, applied at once, and no gateway."""

from collections.abc import Mapping, Sequence

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.pages import server_metrics, server_pages
from modelway.endpoints.kubernetes.record import Record, Seat


class ControllerRouting:
    """The part of :class:`modelway.endpoints.kubernetes.routing.Routing` that does not depend on the controller."""

    def __init__(self, cluster: ClusterObjects) -> None:
        """Route the requests of an endpoint."""
        self._cluster, self._desired = cluster, cluster.desired

    def begin_counting(self, record: Record, fresh: Sequence[str]) -> None:
        """Do nothing: the servers count from their start."""

    def apply(self, record: Record) -> None:
        """Apply the object, and record the endpoint."""
        raise NotImplementedError

    def shift(self, record: Record) -> None:
        """Apply the object with its other weights."""
        self.apply(record)

    def restore(self, record: Record) -> None:
        """See :meth:`apply`."""
        self.apply(record)

    def save(self, record: Record) -> None:
        """Write the record."""
        self._cluster.save(record.manifest(self._desired, {}))

    def wait_empty(self, seat: Seat, *, patience: float) -> None:
        """Do nothing: pods that are to go answer on until nothing sends them requests."""

    def forget(self, record: Record) -> None:
        """Do nothing: the object has only what is wanted."""

    def drift(self, record: Record) -> tuple[str, ...]:
        """Return nothing: all is in the cluster's objects."""
        return ()

    def metrics(self, record: Record) -> Mapping[str, PredictorMetrics]:
        """Return what the servers themselves count."""
        return {name: server_metrics(self._cluster, name, seat) for name, seat in record.seats.items()}

    def pages(self, record: Record, path: str) -> Mapping[str, list[str]]:
        """Return what the servers answer to a path."""
        return {name: server_pages(self._cluster, name, path) for name in record.seats}
