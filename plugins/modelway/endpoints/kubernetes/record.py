"""What is recorded of an endpoint, in a ConfigMap beside it: every Airflow that reaches the cluster finds it there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.gateway.routes import SLOTS, Route, Routes
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.desired import PORT, Desired, How
from modelway.endpoints.plain import read_spec
from modelway.errors import DigestMismatch, EndpointNotReady
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.objects import Kind

CONFIG_MAP = Kind("v1", "ConfigMap")
#: value of the label ``part``
PART = "record"
_KEY = "endpoint.json"


@dataclass
class Seat:
    """A predictor's backend in the gateway."""

    slot: int
    #: when counting began
    since: float = 0.0
    #: the gateway's counts when it moved in, by the gateway's container
    baseline: dict[str, dict[str, int]] = field(default_factory=dict)
    #: ``host:port`` of its Service
    address: str | None = None


@dataclass
class Record:
    """An endpoint as it was applied."""

    spec: EndpointSpec
    mounts: Mapping[str, How]
    seats: dict[str, Seat] = field(default_factory=dict)
    #: predictors that are being retired, with their seats
    retiring: dict[str, Seat] = field(default_factory=dict)
    #: by an object's title: the fields that were applied, as a digest
    applied: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    #: False while an endpoint is made: nothing of it has served yet
    served: bool = True
    url: str = ""

    def routes(self) -> Routes:
        """Return the routes of the gateway."""
        wanted = [
            Route(
                name=each.name,
                version=each.version,
                model=each.model if each.model != self.spec.model else None,
                slot=self.seats[each.name].slot,
                addresses=(self.seats[each.name].address,),
                weight=each.weight,
            )
            for each in self.spec.predictors
        ]
        leaving = [
            Route(name=name, version=0, slot=seat.slot, addresses=(seat.address,), weight=0, wanted=False)
            for name, seat in self.retiring.items()
        ]
        return Routes(all=(*wanted, *leaving), stable_name=self.spec.stable, sticky=self.spec.sticky)

    def free_slot(self) -> int:
        """Return a backend that no predictor is in.

        :raises EndpointNotReady: there is none
        """
        used = {seat.slot for seat in (*self.seats.values(), *self.retiring.values())}
        free = next((slot for slot in range(SLOTS) if slot not in used), None)
        if free is None:
            raise EndpointNotReady(
                "predictors of former changes still have all backends of the gateway",
                where=f"endpoint {self.spec.name}",
                do="Apply the endpoint as it is, then try again",
            )
        return free

    def manifest(self, desired: Desired, files: Mapping[str, str]) -> Manifest:
        """Return the ConfigMap.

        :param files: what a gateway starts with
        """
        manifest = desired.metadata(CONFIG_MAP, naming.record_object(self.spec.name), part=PART)
        return {**manifest, "data": {_KEY: json.dumps(asdict(self), sort_keys=True, indent=1), **files}}


def read_record(found: Object) -> Record:
    """Return what a ConfigMap records.

    :raises DigestMismatch: somebody changed it, so that it cannot be read
    """
    try:
        plain = json.loads(found["data"][_KEY])
        return Record(
            spec=read_spec(plain["spec"]),
            mounts=plain["mounts"],
            seats={name: Seat(**seat) for name, seat in plain["seats"].items()},
            retiring={name: Seat(**seat) for name, seat in plain["retiring"].items()},
            applied=plain["applied"],
            stopped=plain["stopped"],
            served=plain.get("served", True),
            url=plain["url"],
        )
    except (KeyError, TypeError, ValueError) as error:
        name, namespace = (found["metadata"][key] for key in ("name", "namespace"))
        raise DigestMismatch(
            f"the record of the endpoint cannot be read ({type(error).__name__}: {error})",
            where=f"ConfigMap {name} of namespace {namespace}",
            do="Delete it, and deploy again",
        ) from error


def address_of(service: Object) -> str | None:
    """Return ``host:port`` of a Service."""
    address = (service.get("spec") or {}).get("clusterIP")
    return f"{address}:{PORT}" if address and address != "None" else None
