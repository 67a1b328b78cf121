"""What a plan reads from the lineage: the version of the same inputs, a later one, the base version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import DigestMismatch, UnknownModel, UnknownVersion
from modelway.hooks.settings import Settings
from modelway.lineage.records.version import VersionSummary
from modelway.lineage.store import Lineage
from modelway.runs.interval import Interval
from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.code import Base
from modelway.runs.messages.version import KnownVersion


@dataclass(frozen=True, kw_only=True)
class StoredVersion:
    """A version with what evaluates it: its checkpoint, the code that it was trained with, and its parameters."""

    version: int
    checkpoint: Checkpoint
    code: Artifact
    spec: Mapping[str, Any]
    """the model spec that its run used, empty where it had none"""
    params: Mapping[str, Mapping[str, Any]]
    """the parameters of its training, by stage"""

    @property
    def module(self) -> str | None:
        """The model's Python file inside the code package."""
        return self.spec.get("code") or None

    @property
    def command(self) -> tuple[str, ...] | None:
        """The program that evaluates it, None where the function does."""
        command = (self.spec.get("evaluate") or {}).get("command")
        return tuple(command) if command else None

    @property
    def evaluation_params(self) -> dict[str, Any]:
        """The parameters that its evaluation had: those of its run, which may shape its network, and its spec's."""
        used = {name: value for stage in self.params.values() for name, value in stage.items()}
        of_run = {name: used[name] for name in self.spec.get("params") or () if name in used}
        searched = (self.spec.get("search") or {}).get("params") or ()
        of_candidate = {"params": {name: used[name] for name in searched if name in used}}
        sections = (self.spec.get("train") or {}, of_candidate, self.spec.get("evaluate") or {})
        return of_run | {name: value for each in sections for name, value in (each.get("params") or {}).items()}


class KnownVersions:
    """The versions of one model as one run sees them, without its own."""

    def __init__(self, store: Lineage, settings: Settings, *, model: str, dag_id: str, run_id: str) -> None:
        """Read for the run ``run_id``."""
        self._store = store
        self._artifacts = ArtifactStore(settings.artifact_root)
        self._model = model
        self._run: dict[str, str] = {"dag_id": dag_id, "run_id": run_id}

    def version(self, wanted: str) -> KnownVersion:
        """Return a version by number or alias.

        :raises UnknownVersion: there is no version with that number or alias
        :raises UnknownModel: the model has no version yet
        """
        found = self._store.version(self._model, self._store.find(self._model, wanted)).summary
        return KnownVersion(
            model=self._model,
            version=found.number,
            archive=Artifact(uri=found.archive_uri, digest=found.archive_digest, size=found.archive_size),
            model_digest=found.model_digest,
        )

    def own(self) -> int | None:
        """Return the version that this run made before it was cleared."""
        return self._store.version_of_run(self._model, **self._run)

    def same_inputs(self, digest: str) -> tuple[int, str] | None:
        """Return the newest version of these inputs, and the run that made it."""
        number = self._store.version_of_inputs(self._model, digest, **self._run)
        return None if number is None else (number, self._store.version(self._model, number).run.run_id)

    def later(self, interval: Interval, *, run_after: datetime) -> tuple[int, datetime] | None:
        """Return the version of later data than the run's, or of a later run on the same data, and that data's end."""
        # The data of a run without an interval ends at the run's start, which is no measure for a scheduled run.
        scheduled = interval.start is not None
        return self._store.later_version(
            self._model, end=interval.end, run_after=run_after, with_start=scheduled, **self._run
        )

    def newest(self) -> int:
        """Return the number of the model's newest version."""
        return self._store.find(self._model, "latest")

    def base(self, requested: str, usual: str | None, *, warn: Callable[[str], None]) -> Base | None:
        """Return the version to start from, with its checkpoint.

        :param requested: the run's parameter, if set; ``none`` for no version at all
        :param usual: the spec's value; an alias that does not exist yet, as before the first version, is ignored
        :param warn: called with a message where that alias does not exist
        :raises UnknownVersion: it does not exist
        :raises DigestMismatch: its checkpoint is gone
        """
        wanted = requested or usual
        if not wanted or wanted == "none":
            return None
        try:
            number = self._store.find(self._model, wanted)
        except (UnknownModel, UnknownVersion):
            if requested or wanted.lstrip("v").isdigit():
                raise
            warn(f"there is no version '{wanted}' yet: training starts from nothing")
            return None
        found = self._store.version(self._model, number).summary
        return Base(
            version=number,
            checkpoint=self._checkpoint(found, do="Start from another version, or from none (base: none)"),
        )

    def compared(self, reference: str) -> StoredVersion | None:
        """Return a version to compare with; None where an alias does not exist yet, or is this run's own version.

        :raises UnknownVersion: there is no version of this number
        :raises DigestMismatch: its checkpoint or its code is gone
        """
        try:
            number = self._store.find(self._model, reference)
        except (UnknownModel, UnknownVersion):
            if reference.lstrip("v").isdigit():
                raise
            return None
        return None if number == self.own() else self.stored(number)

    def stored(self, number: int) -> StoredVersion:
        """Return a version with its checkpoint and its code, as an evaluation needs them.

        :raises DigestMismatch: one of the two is gone
        """
        detail = self._store.version(self._model, number)
        do = f"Compare with another version, or with a number, since version {number} cannot be evaluated any more"
        checkpoint = self._checkpoint(detail.summary, do=do)
        digest = detail.run.code_digest
        code = self._artifacts.find(digest, model=self._model) if digest else None
        if code is None:
            raise DigestMismatch(f"the code of version {number} is gone", where=f"{self._model} {digest}", do=do)
        return StoredVersion(
            version=number, checkpoint=checkpoint, code=code, spec=detail.run.spec, params=detail.params
        )

    def _checkpoint(self, version: VersionSummary, *, do: str) -> Checkpoint:
        """Return the selected checkpoint of a version.

        :raises DigestMismatch: it is gone
        """
        found = self._artifacts.find(version.checkpoint_digest, model=self._model, uri=version.checkpoint_uri)
        if found is None:
            raise DigestMismatch(
                f"the checkpoint of version {version.number} is gone",
                where=version.checkpoint_uri or f"{self._model} {version.checkpoint_digest}",
                do=do,
            )
        return Checkpoint(id=version.checkpoint, uri=found.uri, digest=found.digest, size=found.size)
