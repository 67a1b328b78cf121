"""The endpoints and models of a project and region of Vertex AI: the calls, on plain data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelway.endpoints.google.place import GooglePlace
from modelway.endpoints.vertex.bodies import Desired, Object
from modelway.endpoints.vertex.observed import Seen, scheme_of
from modelway.platforms.google.errors import GoogleError

_REFUSED = 400


@dataclass(frozen=True)
class Place(GooglePlace):
    """Where endpoints are."""

    SERVICE = "aiplatform"
    SECTION = "vertex"
    TITLE = "Vertex AI"

    def find(self, name: str, desired: Desired | None = None) -> Seen | None:
        """Return an endpoint; None where there is none.

        :param desired: of whose models, pool and operations it is also said whether they are there
        """
        # Before the endpoint: what an operation did that has ended by now is seen there.
        running = self.running(name) if desired is not None else ()
        endpoint = self.get(f"{self.parent}/endpoints/{name}")
        scheme = scheme_of(self.api.connection.base(self.SERVICE, self.region))
        if endpoint is None or desired is None:
            return None if endpoint is None else Seen(endpoint, scheme=scheme)
        ids = dict.fromkeys(desired.model_id(each) for each in desired.spec.predictors)
        # What is deployed has its model.
        deployed = {str(each.get("model")) for each in endpoint.get("deployedModels") or ()}
        there = (
            each
            for each in ids
            if any(f"/models/{each}" in name for name in deployed) or self.get(f"{self.parent}/models/{each}")
        )
        has_pool = desired.pool is None or self.get(desired.pool) is not None
        return Seen(endpoint, frozenset(there), running, has_pool, scheme)

    def running(self, name: str) -> tuple[str, ...]:
        """Return the names of the operations on an endpoint that have not ended, whoever started them."""
        path = f"{self.parent}/endpoints/{name}/operations"
        try:
            found = [*self.api.pages(self.SERVICE, path, "operations", params={"filter": "done=false"})]
        except GoogleError as error:
            if error.is_absent:
                return ()
            raise
        return tuple(str(each["name"]) for each in found if not each.get("done"))

    def endpoints(self) -> Iterator[Seen]:
        """Yield all endpoints that modelway made."""
        params = {"filter": "labels.managed-by=modelway"}
        for endpoint in self.api.pages(self.SERVICE, f"{self.parent}/endpoints", "endpoints", params=params):
            yield Seen(endpoint)

    def models(self, endpoint: str) -> list[str]:
        """Return the names of the models that were uploaded for an endpoint."""
        params = {"filter": f"labels.modelway-endpoint={endpoint}"}
        found = self.api.pages(self.SERVICE, f"{self.parent}/models", "models", params=params)
        return [str(each["name"]).partition("@")[0] for each in found]

    def start(self, path: str, body: Object, params: Mapping[str, str]) -> Object:
        """Start an operation and return it."""
        return self.api.post(self.SERVICE, f"{self.parent}/{path}", params=params, body=body)

    def patch(self, seen: Seen, body: Object, mask: tuple[str, ...]) -> None:
        """Change fields of an endpoint, unless somebody else changed it since it was read."""
        sent = {**body, "etag": seen.endpoint.get("etag")}
        path = f"{self.parent}/endpoints/{seen.name}"
        self.api.patch(self.SERVICE, path, params={"updateMask": ",".join(mask)}, body=sent)

    def cancel(self, operation: str) -> None:
        """Have an operation end, done or not, as soon as Vertex AI can; nothing happens where it has ended."""
        try:
            self.api.post(self.SERVICE, f"{operation}:cancel", idempotent=True)
        except GoogleError as error:
            if not (error.is_absent or error.status == _REFUSED):
                raise

    def delete(self, name: str) -> Object | None:
        """Start to remove a resource and return the operation; None where there is none."""
        try:
            return self.api.delete(self.SERVICE, name)
        except GoogleError as error:
            if error.is_absent:
                return None
            raise
