"""An endpoint of Vertex AI as it is: its deployed models and its split; pure functions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from modelway.endpoints.base import EndpointSpec, EndpointStatus, Predictor, PredictorStatus
from modelway.endpoints.plain import read_spec
from modelway.endpoints.shares import percentages
from modelway.endpoints.vertex.bodies import DEPLOYMENT, Desired, Object
from modelway.errors import DigestMismatch


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is recorded of an endpoint, as it was applied last."""

    spec: EndpointSpec
    #: False while an endpoint is made: nothing of it has served yet
    served: bool
    stopped: bool

    @property
    def is_retired(self) -> bool:
        """Whether nothing of it is to be seen any more: what Vertex AI still has of it serves the next deployment."""
        return self.stopped and not self.served


@dataclass(frozen=True)
class Seen:
    """An endpoint, and what of the desired models there is."""

    endpoint: Object
    #: ids of the models that were asked for and are there
    models: frozenset[str] = frozenset()
    #: names of operations on the endpoint that have not ended
    running: tuple[str, ...] = ()
    #: whether the shared pool is there, where one is wanted
    has_pool: bool = True
    #: http or https: as the API itself is reached
    scheme: str = field(default="https")

    @property
    def name(self) -> str:
        """The name of the endpoint."""
        return str(self.endpoint["name"]).rpartition("/")[2]

    @property
    def owner(self) -> str | None:
        """The deployment of modelway that made it."""
        found = (self.endpoint.get("labels") or {}).get(DEPLOYMENT)
        return None if found is None else str(found)

    @property
    def deployed(self) -> dict[str, str]:
        """The ids of the deployed models to the ids of their models."""
        return {str(each["id"]): _model_id(each) for each in self.endpoint.get("deployedModels") or ()}

    @property
    def split(self) -> dict[str, int]:
        """The per cents by the ids of the deployed models; those without any are left out."""
        found = self.endpoint.get("trafficSplit") or {}
        return {str(key): int(percent) for key, percent in found.items() if int(percent)}

    @property
    def is_retired(self) -> bool:
        """Whether it was retired; one whose record cannot be read was not."""
        try:
            return self.record().is_retired
        except DigestMismatch:
            return False

    def record(self) -> Record:
        """Return what is recorded.

        :raises DigestMismatch: somebody changed it, so that it cannot be read
        """
        try:
            found = json.loads(self.endpoint.get("description") or "")
            return Record(spec=read_spec(found["spec"]), served=found["served"], stopped=found["stopped"])
        except (KeyError, TypeError, ValueError) as error:
            raise DigestMismatch(
                f"its description cannot be read ({type(error).__name__}: {error})",
                where=f"Vertex AI endpoint {self.name}",
                do="Delete the endpoint, and deploy again",
            ) from error

    def url(self, deployed_id: str | None = None) -> str:
        """Return where it answers, or one deployed model alone, by the Open Inference Protocol."""
        name, host = self.endpoint["name"], self.endpoint.get("dedicatedEndpointDns")
        if not host:
            return ""
        alone = f"/deployedModels/{deployed_id}" if deployed_id else ""
        return f"{self.scheme}://{host}/v1/{name}{alone}/invoke"

    def ids(self, desired: Desired) -> dict[str, str]:
        """Return the ids of the predictors' deployed models, there or not."""
        taken = self.deployed
        found = {}
        for each in desired.spec.predictors:
            found[each.name] = desired.deployed_id(each, taken)
            taken.setdefault(found[each.name], desired.model_id(each))
        return found

    def status(self, desired: Desired, record: Record) -> EndpointStatus:
        """Return the endpoint as it is.

        :param desired: as it is recorded
        """
        ids, spec = self.ids(desired), record.spec
        weights = self._weights(ids, record)
        by_path = desired.own.route == "invoke"
        predictors = tuple(
            self._predictor(each, ids[each.name], weights[each.name], record, by_path=by_path)
            for each in spec.predictors
        )
        answers = not record.stopped and bool(self.split)
        url = self.url() if by_path else self.url().removesuffix("/invoke") + ":rawPredict"
        return EndpointStatus(
            name=spec.name,
            model=spec.model,
            url=url,
            predictors=predictors,
            stable=spec.stable,
            sticky=spec.sticky,
            platform=spec.platform,
            ready=answers and all(one.ready for one in predictors if one.weight),
            gateway_ready=answers,
            stopped=record.stopped,
            problem="" if answers or record.stopped else "no version gets requests",
            drift=self._drift(ids) if record.served and not record.stopped else (),
        )

    def _weights(self, ids: Mapping[str, str], record: Record) -> dict[str, int]:
        """Return the weights as they were applied, unless the split is another one since."""
        applied = {each.name: each.weight for each in record.spec.predictors}
        split = {name: self.split.get(ids[name], 0) for name in applied}
        return applied if record.stopped or not record.served or percentages(applied) == split else split

    def _predictor(
        self, each: Predictor, deployed_id: str, weight: int, record: Record, *, by_path: bool
    ) -> PredictorStatus:
        found = next((one for one in self.endpoint.get("deployedModels") or () if one["id"] == deployed_id), None)
        available = (found or {}).get("status", {}).get("availableReplicaCount")
        servers = 0 if found is None or record.stopped else each.replicas if available is None else int(available)
        waits = "it is not deployed" if found is None else "none of its machines is available"
        return PredictorStatus(
            name=each.name,
            version=each.version,
            model=each.model,
            image=each.image,
            model_path=each.model_path,
            weight=weight,
            ready=servers > 0,
            url=self.url(deployed_id) if by_path else "",
            replicas=each.replicas,
            ready_replicas=servers,
            resources=each.resources,
            batching=each.batching,
            autoscaling=each.autoscaling,
            problem="" if servers or record.stopped else waits,
        )

    def _drift(self, ids: Mapping[str, str]) -> tuple[str, ...]:
        others = {key: percent for key, percent in self.split.items() if key not in ids.values()}
        return tuple(f"{percent} % of the requests go to the deployed model {key}" for key, percent in others.items())


def _model_id(deployed: Mapping[str, Any]) -> str:
    return str(deployed.get("model") or "").rpartition("/")[2].partition("@")[0]


def scheme_of(base: str) -> str:
    """Return how endpoints are reached where the API has this base: an emulator's speak HTTP."""
    return urlsplit(base).scheme or "https"
