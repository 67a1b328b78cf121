"""The services of a project and region of Cloud Run: the calls, on plain data."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.cloud_run.template import Object
from modelway.endpoints.google.place import GooglePlace
from modelway.platforms.google.errors import GoogleError


@dataclass(frozen=True)
class Place(GooglePlace):
    """Where services are."""

    SERVICE = "run"
    SECTION = "cloud_run"
    TITLE = "Cloud Run"

    def find(self, name: str) -> Object | None:
        """Return a service; None where there is none."""
        return self.get(f"{self.parent}/services/{name}")

    def revision(self, service: str, name: str) -> Object | None:
        """Return a revision; None where there is none."""
        return self.get(f"{self.parent}/services/{service}/revisions/{name}")

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
        for service in self.api.pages(self.SERVICE, f"{self.parent}/services", "services"):
            yield Seen(service)

    def create(self, name: str, body: Object) -> None:
        """Begin to create a service."""
        self.api.post(self.SERVICE, f"{self.parent}/services", params={"serviceId": name}, body=body)

    def patch(self, seen: Seen, body: Object, mask: tuple[str, ...]) -> None:
        """Begin to change fields of a service, unless somebody else changed it since it was read."""
        path = f"{self.parent}/services/{seen.name}"
        sent = {**body, "etag": seen.service.get("etag")}
        self.api.patch(self.SERVICE, path, params={"updateMask": ",".join(mask)}, body=sent)

    def delete(self, name: str) -> None:
        """Begin to remove a service; nothing happens where there is none."""
        try:
            self.api.delete(self.SERVICE, f"{self.parent}/services/{name}")
        except GoogleError as error:
            if not error.is_absent:
                raise
