"""The folders of jobs on a cluster: an attempt's record names the objects of its own, whatever its job wrote."""

from dataclasses import dataclass, replace
from pathlib import Path

from modelway.backends.folders.stored import StoredFolders
from modelway.backends.kubernetes.attempts import AttemptRecord


@dataclass(frozen=True, kw_only=True)
class Folders(StoredFolders):
    """The folders of jobs, whatever storage they are on."""

    backend: str = "kubernetes"

    def _check_record(self, attempt: Path) -> None:
        # The job may write to its bucket: a token that it left there is replaced by the attempt's own.
        if (record := AttemptRecord.read(attempt)) and record.token != self.token(attempt):
            replace(record, token=self.token(attempt)).write(attempt)
