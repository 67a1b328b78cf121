"""A versioned DAG bundle of local folders: a run continues with the DAG files and model specs that it started with."""

import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion, BundleVersionLock

from modelway.artifacts.snapshot import (
    DAGS,
    MARKER,
    MODELS,
    Entry,
    find_entries,
    signature,
    unpack_snapshot,
    write_snapshot,
)
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.artifacts.whole_files import replace_file
from modelway.errors import DigestMismatch, ModelwayError
from modelway.folders import models_folder
from modelway.hooks.settings import load_settings, make_private

if TYPE_CHECKING:
    from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager

#: no model's name begins like this
STORED_AS = "_snapshots"
#: a file that changed this shortly ago may change again without a new time
SETTLED_SECONDS = 2.0
#: a snapshot larger than this is reported: it is made again with each change
LARGE_BYTES = 200_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Current:
    """The last snapshot that was made here; an empty signature means that the folders were still changing."""

    snapshot: Artifact
    signature: str


class SnapshotDagBundle(BaseDagBundle):
    """The DAG files and the models' folders; each state of them is a version, stored in the artifact store.

    A worker on any machine that reaches the artifact store gets the version of its run.

    :param dags: the folder of the DAG files; default: Airflow's ``[core] dags_folder``
    :param models: the folder of the models; default: ``MODELWAY_MODELS`` or another one of ``modelway.folders``
    """

    supports_versioning = True

    def __init__(self, *, dags: str | None = None, models: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dags = Path(dags or conf.get_mandatory_value("core", "dags_folder")).absolute()
        self._models_path = models
        self._current: _Current | None = None

    @cached_property
    def _models(self) -> Path:
        if self._models_path:
            return Path(self._models_path).absolute()
        return models_folder()

    @property
    def path(self) -> Path:
        """The folder of the DAG files in the snapshot; before there is one here, the folder that they come from."""
        if self.version:
            return self._folder(self.version) / DAGS
        current = self._current or self._remembered()
        return self._folder(_hex(current.snapshot)) / DAGS if current else self._dags

    def _folder(self, version: str) -> Path:
        return Path(self.versions_dir) / version

    def initialize(self) -> None:
        """Bring the version, or the newest state of the folders, to this machine.

        :raises ModelwayError: the version is neither here nor in the artifact store
        """
        if self.version:
            self._bring(self.version)
        else:
            self.refresh()
        super().initialize()

    def get_current_version(self) -> BundleVersion | None:
        """Return the version, which is the digest of the snapshot, and where the snapshot is stored."""
        if self.version:
            return BundleVersion(version=self.version)
        if self._current is None:
            return None
        return BundleVersion(version=_hex(self._current.snapshot), data=self._current.snapshot.to_dict())

    def refresh(self) -> None:
        """Make a snapshot if anything changed.

        :raises ModelwayError: the folder of the DAG files cannot be read, the artifact store cannot be written, or is
            in a folder that would be part of the snapshot: Airflow logs it, tries again at the next refresh and
            continues with the snapshot that it has
        """
        if self.version:
            raise ModelwayError(f"version {self.version} of the bundle '{self.name}' is what it is: it has no refresh")
        _forget_callbacks()
        before = self._current
        with self.lock():
            self._current = self._refreshed()
        if before and before.snapshot != self._current.snapshot:
            self._touch()
        # Airflow removes versions that nobody used for long.
        with BundleVersionLock(self.name, _hex(self._current.snapshot)):
            pass

    def _touch(self) -> None:
        """Make the DAG files new, which Airflow parses at once: those of a state from before would have to wait."""
        for path in self.path.rglob("*"):
            os.utime(path, follow_symlinks=False)

    def _refuse_itself(self) -> None:
        """A snapshot that is written into the folders that it is made of would grow until the disk is full."""
        settings = load_settings()
        places = {"MODELWAY_HOME": settings.home, "Airflow's storage of bundles": Path(self.base_dir)}
        if settings.artifact_root.startswith(("file://", "/")):
            places["MODELWAY_ARTIFACT_ROOT"] = Path(settings.artifact_root.removeprefix("file://"))
        for what, place in places.items():
            for folder in (self._dags, self._models):
                inner, outer = Path(os.path.realpath(place)), Path(os.path.realpath(folder))
                if inner.is_relative_to(outer) and not any(part[0] == "." for part in inner.relative_to(outer).parts):
                    raise ModelwayError(
                        f"{what} ({place}) is in {folder}, of which each change is stored there",
                        do=f"Move it out of that folder, or into a hidden one, such as {outer / '.modelway'}",
                    )

    def _refreshed(self) -> _Current:
        self._refuse_itself()
        make_private(load_settings().home)
        known = self._remembered()
        entries, commits = self._inspect()
        if known and known.signature == signature(entries, commits) and self._is_here(_hex(known.snapshot)):
            return known
        Path(self.base_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.base_dir, prefix="taking-") as scratch:
            package = Path(scratch) / "snapshot.zip"
            for _ in range(3):
                write_snapshot(entries, commits=commits, to=package)
                before, (entries, commits) = signature(entries, commits), self._inspect()
                if before == signature(entries, commits):
                    break
            snapshot = self._store.put(package, model=STORED_AS)
            self._unpack(package, _hex(snapshot))
        if snapshot.size > LARGE_BYTES:
            log.warning(
                "a snapshot of the DAG files and models has %d MB and is made at each change: keep data out of %s",
                snapshot.size // 10**6,
                self._models,
            )
        newest = max((entry.stamp[1] for entry in entries if entry.stamp), default=0) / 1e9
        is_settled = before == signature(entries, commits) and newest < time.time() - SETTLED_SECONDS
        current = _Current(snapshot=snapshot, signature=before if is_settled else "")
        self._remember(current)
        return current

    def _inspect(self) -> tuple[tuple[Entry, ...], dict[str, Any]]:
        from modelway.artifacts.commits import git_commits

        entries = find_entries(dags=self._dags, models=self._models)
        folders = [entry.name for entry in entries if stat.S_ISDIR(entry.kind) and entry.name.startswith(f"{MODELS}/")]
        names = [name for folder in folders if "/" not in (name := folder.removeprefix(f"{MODELS}/"))]
        commits = git_commits(self._models, names=names)
        return entries, {name: commits[name].to_dict() for name in sorted(commits)}

    @property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(load_settings().artifact_root)

    def _bring(self, version: str) -> None:
        if self._is_here(version):
            return
        with self.lock():
            if self._is_here(version):
                return
            Path(self.base_dir).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.base_dir, prefix="taking-") as scratch:
                package = Path(scratch) / "snapshot.zip"
                try:
                    self._fetch(version, to=package)
                except (OSError, DigestMismatch) as error:
                    raise ModelwayError(
                        f"the snapshot of the DAG files that this run started with cannot be fetched ({error})",
                        where=self._store.uri(f"sha256:{version}", model=STORED_AS),
                        do="Let this machine reach MODELWAY_ARTIFACT_ROOT, or clear the run on the latest version",
                    ) from error
                self._unpack(package, version)

    def _fetch(self, version: str, *, to: Path) -> None:
        found = self._store.find(f"sha256:{version}", model=STORED_AS)
        if found is None:
            raise FileNotFoundError("it is not there")
        self._store.fetch(found, to=to)

    def _is_here(self, version: str) -> bool:
        return (self._folder(version) / MARKER).is_file()

    def _unpack(self, package: Path, version: str) -> None:
        """Make the version's folder: whole or not at all."""
        folder = self._folder(version)
        if self._is_here(version):
            return
        beside = folder.with_name(f".{version}.{uuid.uuid4().hex}")
        unpack_snapshot(package=package, to=beside)
        if folder.exists():
            # Airflow was stopped while it removed this version.
            folder.rename(folder.with_name(f".{uuid.uuid4().hex}.gone"))
        beside.rename(folder)

    @property
    def _memory(self) -> Path:
        """The file that remembers the last snapshot of these two folders, for other processes and the next start."""
        sources = hashlib.sha256(f"{self._dags}\0{self._models}\0{self._store.root}".encode()).hexdigest()
        return Path(self.base_dir) / f"current-{sources[:16]}.json"

    def _remember(self, current: _Current) -> None:
        replace_file(path=self._memory, data=json.dumps(asdict(current)).encode())

    def _remembered(self) -> _Current | None:
        try:
            found = json.loads(self._memory.read_text())
            return _Current(snapshot=Artifact.from_dict(found["snapshot"]), signature=found["signature"])
        except (OSError, ValueError, KeyError, ModelwayError):
            return None


def _forget_callbacks() -> None:
    """Let the DAG processor of this process, if it is one, forget when it ran the callbacks of a version of the bundle.

    Airflow 3.3.2 finds when it last parsed a file by its name alone. The entry of a version's callback, a second one by
    that name, has no such time: it would parse the file again and again, without a pause, until it is started again.
    See findings/airflow-3.3.2-parses-without-a-pause-after-a-callback.sh.
    """
    module = sys.modules.get("airflow.dag_processing.manager")
    if module is None or hasattr(module.DagFileProcessorManager, "modelway_original"):
        return
    handle = module.DagFileProcessorManager.handle_parsing_result

    def handle_and_forget(manager: "DagFileProcessorManager", file: "DagFileInfo", *args: Any, **options: Any) -> None:
        handle(manager, file, *args, **options)
        if file.bundle_version is not None:
            manager._file_stats.pop(file, None)

    module.DagFileProcessorManager.modelway_original = handle
    module.DagFileProcessorManager.handle_parsing_result = handle_and_forget


def _hex(artifact: Artifact) -> str:
    return artifact.digest.removeprefix("sha256:")
