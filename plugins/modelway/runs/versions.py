"""What a plan asks the lineage: which version is the same, the later one, the one to start from. Without Airflow."""

import logging
from datetime import datetime
from typing import Any

from modelway.artifacts.store import ArtifactStore
from modelway.errors import DigestMismatch, UnknownModel, UnknownVersion
from modelway.hooks.settings import Settings
from modelway.lineage.store import Lineage
from modelway.runs.inputs import Interval


class KnownVersions:
    """The versions of one model as one run sees them: what it made itself does not count."""

    def __init__(self, store: Lineage, settings: Settings, *, model: str, dag_id: str, run_id: str) -> None:
        """Answer for the run ``run_id``."""
        self._store = store
        self._artifacts = ArtifactStore(settings.artifact_root)
        self._model = model
        self._run: Any = {"dag_id": dag_id, "run_id": run_id}

    def version(self, wanted: str) -> dict[str, Any]:
        """Return a version as a plan has it.

        :raises UnknownVersion: there is none of that number or alias
        :raises UnknownModel: the model has no version yet
        """
        found = self._store.version(self._model, self._store.find(self._model, wanted)).summary
        archive = {"uri": found.archive_uri, "digest": found.archive_digest, "size": found.archive_size}
        told = {"model": self._model, "version": found.number, "archive": archive}
        return {**told, "model_digest": found.model_digest}

    def own(self) -> int | None:
        """Return the version that this run made before it was cleared."""
        return self._store.version_of_run(self._model, **self._run)

    def same_inputs(self, digest: str) -> tuple[int, str] | None:
        """Return the newest version of these inputs with the run that made it."""
        number = self._store.version_of_inputs(self._model, digest, **self._run)
        return None if number is None else (number, self._store.version(self._model, number).run.run_id)

    def later(self, interval: Interval, *, run_after: datetime) -> tuple[int, datetime] | None:
        """Return the version of later data than the run's, or of a later run on the same, and that data's end."""
        # A run without an interval of its own ended its data when it began, which says nothing to one of a schedule.
        scheduled = interval.start is not None
        return self._store.later_version(
            self._model, end=interval.end, run_after=run_after, with_start=scheduled, **self._run
        )

    def newest(self) -> int:
        """Return the number of the model's newest version."""
        return self._store.find(self._model, "latest")

    def base(self, asked: str, usual: str | None, *, log: logging.Logger | Any) -> dict[str, Any] | None:
        """Return the version to start from, with its checkpoint.

        :param asked: what the run asks for, if anything; ``none`` for no version at all
        :param usual: what the spec says; an alias that is not there yet, as before the first version, is passed over
        :raises UnknownVersion: it is not there
        :raises DigestMismatch: its checkpoint is gone
        """
        wanted = asked or usual
        if not wanted or wanted == "none":
            return None
        try:
            number = self._store.find(self._model, wanted)
        except (UnknownModel, UnknownVersion):
            if asked or wanted.lstrip("v").isdigit():
                raise
            log.warning("there is no version '%s' yet: training starts from nothing", wanted)
            return None
        found = self._store.version(self._model, number).summary
        checkpoint = self._artifacts.find(found.checkpoint_digest, model=self._model, uri=found.checkpoint_uri)
        if checkpoint is None:
            raise DigestMismatch(
                f"the checkpoint of version {number} is gone",
                where=found.checkpoint_uri or f"{self._model} {found.checkpoint_digest}",
                do="Start from another version, or from none (base: none)",
            )
        return {"version": number, "checkpoint": {"id": found.checkpoint, **checkpoint.to_dict()}}
