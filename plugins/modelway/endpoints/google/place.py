"""Where resources of a service of Google Cloud are, and how one is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from modelway.errors import InvalidSpec
from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.rest import GoogleApi


@dataclass(frozen=True)
class GooglePlace:
    """A project and region of one service."""

    #: the service's name among the API's, the section of the spec, and what messages call it
    SERVICE: ClassVar[str]
    SECTION: ClassVar[str]
    TITLE: ClassVar[str]

    api: GoogleApi
    project: str
    region: str

    @classmethod
    def of(cls, platform: Mapping[str, Any], api: GoogleApi) -> Self | None:
        """Return the place of the target's section; None where it has no region.

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
                do=f"Write {cls.SECTION}: {{project: my-project}}, or name it in the connection",
            )
        return cls(api, str(project), str(region))

    def __str__(self) -> str:
        """Return the text that messages show."""
        return f"{self.TITLE} of {self.project}, {self.region}"

    @property
    def parent(self) -> str:
        """What the resources are in."""
        return f"projects/{self.project}/locations/{self.region}"

    def get(self, path: str) -> dict[str, Any] | None:
        """Return a resource; None where there is none."""
        try:
            return self.api.get(self.SERVICE, path)
        except GoogleError as error:
            if error.is_absent:
                return None
            raise
