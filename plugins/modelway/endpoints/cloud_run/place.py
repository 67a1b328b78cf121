"""The services of a project and region of Cloud Run: the calls, on plain data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.cloud_run.template import Object
from modelway.errors import InvalidSpec
from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.rest import GoogleApi

_SERVICE = "run"


@dataclass(frozen=True)
class Place:
    """Where services are."""

    api: GoogleApi
    project: str
    region: str

    @classmethod
    def of(cls, platform: Mapping[str, Any], api: GoogleApi) -> "Place | None":
        """Return the place of a section ``endpoint.cloud_run``; None where it has no region.

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
                do="Write cloud_run: {project: my-project}, or name it in the connection",
            )
        return cls(api, str(project), str(region))

    def __str__(self) -> str:
        """Return the text that messages show."""
        return f"Cloud Run of {self.project}, {self.region}"

    @property
    def parent(self) -> str:
        """What the services are in."""
        return f"projects/{self.project}/locations/{self.region}"

    def find(self, name: str) -> Object | None:
        """Return a service; None where there is none."""
        return self._get(f"{self.parent}/services/{name}")

    def revision(self, service: str, name: str) -> Object | None:
        """Return a revision; None where there is none."""
        return self._get(f"{self.parent}/services/{service}/revisions/{name}")

    def seen(self, name: str) -> Seen | None:
        """Return a service with the revisions of its split; None where there is none."""
        service = self.find(name)
        if service is None:
            return None
        seen = Seen(service)
        named = dict.fromkeys(str(each["revision"]) for each in seen.actual if each.get("revision"))
        found = {each: self.revision(name, each) for each in named}
        return Seen(service, {each: revision for each, revision in found.items() if revision is not None})

    def services(self) -> Iterator[Seen]:
        """Yield all services, without their revisions."""
        for service in self.api.pages(_SERVICE, f"{self.parent}/services", "services"):
            yield Seen(service)

    def create(self, name: str, body: Object) -> None:
        """Begin to create a service."""
        self.api.post(_SERVICE, f"{self.parent}/services", params={"serviceId": name}, body=body)

    def patch(self, seen: Seen, body: Object, mask: tuple[str, ...]) -> None:
        """Begin to change fields of a service, unless somebody else changed it since it was read."""
        path = f"{self.parent}/services/{seen.name}"
        sent = {**body, "etag": seen.service.get("etag")}
        self.api.patch(_SERVICE, path, params={"updateMask": ",".join(mask)}, body=sent)

    def delete(self, name: str) -> None:
        """Begin to remove a service; nothing happens where there is none."""
        try:
            self.api.delete(_SERVICE, f"{self.parent}/services/{name}")
        except GoogleError as error:
            if not error.is_absent:
                raise

    def _get(self, path: str) -> Object | None:
        try:
            return self.api.get(_SERVICE, path)
        except GoogleError as error:
            if error.is_absent:
                return None
            raise
