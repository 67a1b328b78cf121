"""The projects and regions that have had jobs: no list of Vertex AI covers more than one region of a project."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from modelway.backends.vertex.jobs import Place

#: more of them, for a process that has another home: ``project/region,project/region``
VARIABLE = "MODELWAY_VERTEX_PLACES"
_BETWEEN = "@"


@dataclass(frozen=True, kw_only=True)
class Places:
    """What the home folder knows of them, a file for each."""

    home: Path

    @property
    def _folder(self) -> Path:
        return self.home / "jobs-vertex" / ".places"

    def note(self, place: Place) -> None:
        """Remember a place, before a job is sent there."""
        file = self._folder / f"{place.region}{_BETWEEN}{place.project}"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            file.touch()

    def known(self) -> list[Place]:
        """Return all places that are known, sorted."""
        found = set()
        with contextlib.suppress(FileNotFoundError):
            for file in self._folder.iterdir():
                region, between, project = file.name.partition(_BETWEEN)
                if between:
                    found.add(Place(project, region))
        for text in filter(None, os.environ.get(VARIABLE, "").split(",")):
            project, _, region = text.strip().rpartition("/")
            found.add(Place(project, region))
        return sorted(found)
