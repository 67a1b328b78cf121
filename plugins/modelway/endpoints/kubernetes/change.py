"""One change of an endpoint: predictors first; when they are ready, all traffic at once; then what is left."""

import time
from contextlib import suppress
from dataclasses import replace

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.engines import is_available, predictor_manifests, running
from modelway.endpoints.kubernetes.prepull import prepull
from modelway.endpoints.kubernetes.record import Record, Seat, address_of
from modelway.endpoints.kubernetes.routing import Routing
from modelway.endpoints.kubernetes.routings import routing_of
from modelway.errors import ModelwayError
from modelway.platforms.kubernetes.api import Manifest

#: seconds in which requests to a predictor that is retired may end
_EMPTY_SECONDS = 30.0


class Change:
    """Brings an endpoint to what is desired, from whatever there is."""

    def __init__(
        self, cluster: ClusterObjects, routing: Routing, *, before: Record | None, former: ClusterObjects | None
    ) -> None:
        """Change what ``before`` records, None for a new endpoint.

        :param former: the objects as ``before`` has them
        """
        self.cluster, self.routing, self.before, self.former = cluster, routing, before, former
        self.desired: Desired = cluster.desired
        self.record = self._seated()

    def run(self, *, timeout: float) -> Record:
        """Make the change and return what is recorded.

        :param timeout: seconds that new servers may take to load their models
        """
        spec = self.desired.spec
        manifests = {each.name: predictor_manifests(self.desired, each) for each in spec.predictors}
        everything = [one for found in manifests.values() for one in found]
        self.cluster.refuse_foreign([*everything, *self.routing.manifests(self.record)])
        if self.before is None:
            # What a change that is killed leaves is found by it.
            self.record.served = False
            self.routing.save(self.record)
            self.record.served = True
        try:
            if self.desired.own.prepull:
                prepull(self.cluster, self._unseen(), timeout=timeout)
            for each in spec.predictors:
                self._apply_predictor(each, manifests[each.name])
            self.routing.prepare(self.record, self.before)
            self.cluster.wait_predictors(spec.predictors, is_available=self._is_available, timeout=timeout)
            self.routing.begin_counting(self.record, self._fresh())
            self.routing.apply(self.record)
        except ModelwayError:
            # What failed first is what matters; what is left of it then is drift.
            with suppress(ModelwayError):
                self._undo()
            raise
        self._retire([*everything, *self.routing.manifests(self.record)])
        return self.record

    def _seated(self) -> Record:
        """Return the record with a backend of the gateway for each predictor; those that leave stay in theirs."""
        spec, before = self.desired.spec, self.before
        record = Record(spec=spec, mounts=self.desired.mounts, applied=dict(before.applied) if before else {})
        known = {**before.retiring, **before.seats} if before else {}
        wanted = [each.name for each in spec.predictors]
        record.seats = {name: known[name] for name in wanted if name in known}
        record.retiring = {name: seat for name, seat in known.items() if name not in wanted}
        for name in wanted:
            if name not in record.seats:
                record.seats[name] = Seat(slot=record.free_slot(), since=time.time())
        self.cluster.applied = record.applied
        return record

    def _fresh(self) -> list[str]:
        known = self.before.seats if self.before else {}
        return [name for name in self.record.seats if name not in known]

    def _unseen(self) -> list[Predictor]:
        """Return predictors whose images no predictor had before, and that nodes must pull."""
        known = {each.image for each in self.before.spec.predictors} if self.before else set()
        return [
            each
            for each in self.desired.spec.predictors
            if each.image not in known and self.desired.mounts[each.name] != "loader"
        ]

    def _apply_predictor(self, predictor: Predictor, manifests: list[Manifest]) -> None:
        for manifest in manifests:
            found = self.cluster.apply(manifest)
            if manifest["kind"] == "Service":
                self.record.seats[predictor.name].address = address_of(found)

    def _is_available(self, predictor: Predictor) -> bool:
        found = running(self.cluster.objects, self.desired, predictor)
        return is_available(found, self.desired, predictor, lambda: self.cluster.pods(predictor=predictor.name))

    def _undo(self) -> None:
        """Leave what served before as it was: a new predictor is removed, a changed one gets its former pods."""
        if self.before is None or self.former is None:
            self.cluster.prune(())
            self.cluster.renew()
            self.cluster.objects.delete(self.record.manifest(self.desired, {}))
            return
        routing = routing_of(self.former)
        predictors = [
            one for each in self.before.spec.predictors for one in predictor_manifests(self.former.desired, each)
        ]
        wanted = [*predictors, *routing.manifests(self.before)]
        for manifest in wanted:
            self.former.apply(manifest)
        routing.restore(self.before)
        self.former.prune(wanted)

    def _retire(self, wanted: list[Manifest]) -> None:
        """Remove what is no longer wanted, once the requests that it has are answered."""
        for seat in self.record.retiring.values():
            self.routing.wait_empty(seat, patience=_EMPTY_SECONDS)
        self.cluster.prune(wanted)
        if self.record.retiring:
            self.record.retiring = {}
            self.routing.forget(self.record)
        self.routing.save(self.record)


def stopped_manifests(desired: Desired) -> list[Manifest]:
    """Return the predictors' objects of an endpoint that is stopped."""
    stopped = replace(desired, stopped=True)
    return [one for each in desired.spec.predictors for one in predictor_manifests(stopped, each)]
