"""The endpoints and models of a project and region of Vertex AI: the calls, on plain data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelway.endpoints.vertex.bodies import Desired, Object
from modelway.endpoints.vertex.observed import Seen, scheme_of
from modelway.errors import InvalidSpec
from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.rest import GoogleApi

_SERVICE = "aiplatform"


@dataclass(frozen=True)
class Place:
    """Where endpoints are."""

    api: GoogleApi
    project: str
    region: str

    @classmethod
    def of(cls, platform: Mapping[str, Any], api: GoogleApi) -> "Place | None":
        """Return the place of a section ``endpoint.vertex``; None where it has no region.

        :raises InvalidSpec: neither it nor the connection names a project
        """
        region = platform.get("region")
        if not region:
            return None
        project = platform.get("project") or api.credentials.project()
        if not project:
            raise InvalidSpec(
                "no project is named",
                where=api.connection.where,
                do="Write vertex: {project: my-project}, or name it in the connection",
            )
        return cls(api, str(project), str(region))

    def __str__(self) -> str:
        """Return the text that messages show."""
        return f"Vertex AI of {self.project}, {self.region}"

    @property
    def parent(self) -> str:
        """What endpoints and models are in."""
        return f"projects/{self.project}/locations/{self.region}"

    def find(self, name: str, desired: Desired | None = None) -> Seen | None:
        """Return an endpoint; None where there is none.

        :param desired: of whose models, pool and operations it is also said whether they are there
        """
        # Before the endpoint: what an operation did that has ended by now is seen there.
        running = self.running(name) if desired is not None else ()
        endpoint = self._get(f"{self.parent}/endpoints/{name}")
        scheme = scheme_of(self.api.connection.base(_SERVICE, self.region))
        if endpoint is None or desired is None:
            return None if endpoint is None else Seen(endpoint, scheme=scheme)
        ids = dict.fromkeys(desired.model_id(each) for each in desired.spec.predictors)
        # What is deployed has its model.
        deployed = {str(each.get("model")) for each in endpoint.get("deployedModels") or ()}
        there = (
            each
            for each in ids
            if any(f"/models/{each}" in name for name in deployed) or self._get(f"{self.parent}/models/{each}")
        )
        has_pool = desired.pool is None or self._get(desired.pool) is not None
        return Seen(endpoint, frozenset(there), running, has_pool, scheme)

    def running(self, name: str) -> tuple[str, ...]:
        """Return the names of the operations on an endpoint that have not ended, whoever started them."""
        path = f"{self.parent}/endpoints/{name}/operations"
        try:
            found = [*self.api.pages(_SERVICE, path, "operations", params={"filter": "done=false"})]
        except GoogleError as error:
            if error.is_absent:
                return ()
            raise
        return tuple(str(each["name"]) for each in found if not each.get("done"))

    def endpoints(self) -> Iterator[Seen]:
        """Yield all endpoints that modelway made."""
        params = {"filter": "labels.managed-by=modelway"}
        for endpoint in self.api.pages(_SERVICE, f"{self.parent}/endpoints", "endpoints", params=params):
            yield Seen(endpoint)

    def models(self, endpoint: str) -> list[str]:
        """Return the names of the models that were uploaded for an endpoint."""
        params = {"filter": f"labels.modelway-endpoint={endpoint}"}
        found = self.api.pages(_SERVICE, f"{self.parent}/models", "models", params=params)
        return [str(each["name"]).partition("@")[0] for each in found]

    def start(self, path: str, body: Object, params: Mapping[str, str]) -> Object:
        """Start an operation and return it."""
        return self.api.post(_SERVICE, f"{self.parent}/{path}", params=params, body=body)

    def patch(self, seen: Seen, body: Object, mask: tuple[str, ...]) -> None:
        """Change fields of an endpoint, unless somebody else changed it since it was read."""
        sent = {**body, "etag": seen.endpoint.get("etag")}
        path = f"{self.parent}/endpoints/{seen.name}"
        self.api.patch(_SERVICE, path, params={"updateMask": ",".join(mask)}, body=sent)

    def delete(self, name: str) -> Object | None:
        """Start to remove a resource and return the operation; None where there is none."""
        try:
            return self.api.delete(_SERVICE, name)
        except GoogleError as error:
            if error.is_absent:
                return None
            raise

    def _get(self, path: str) -> Object | None:
        try:
            return self.api.get(_SERVICE, path)
        except GoogleError as error:
            if error.is_absent:
                return None
            raise
