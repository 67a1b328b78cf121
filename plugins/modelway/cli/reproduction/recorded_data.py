"""Whether the data that a run read is unchanged: the model spec's data sets, and those that its jobs reported."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.errors import DatasetUnavailable, InvalidDataset

if TYPE_CHECKING:
    from modelway.lineage.records.version import DatasetRecord, RunRecord

_CHANGED = "Restore the recorded data; nothing was run"


def check_data(run: "RunRecord", *, declared: Mapping[str, Any], jobs: Path) -> tuple[str, ...]:
    """Return a line for each data set that cannot be checked for changes.

    :param declared: the model spec's data sets
    :param jobs: the folder of the jobs on this machine: what a run wrote there is made again
    :raises InvalidDataset: one is gone, or holds something else than the run read; or the record lacks one
    :raises DigestMismatch: one is not what the model spec says
    """
    recorded = declared_data(run, declared=declared)
    unchecked = [_check_declared(data, pinned=declared[name].get("digest")) for name, data in recorded.items()]
    places = {(data.name, data.uri) for data in recorded.values()}
    reported = {
        (data.name, data.uri, data.digest): data for data in run.datasets if (data.name, data.uri) not in places
    }
    unchecked += [_check_reported(data, jobs=jobs) for data in reported.values()]
    return tuple(line for line in unchecked if line)


def declared_data(run: "RunRecord", *, declared: Mapping[str, Any]) -> dict[str, "DatasetRecord"]:
    """Return the recorded data set of the run for each one that the model spec declares.

    :raises InvalidDataset: the record lacks one
    """
    found: dict[str, DatasetRecord] = {}
    for data in run.datasets:
        # A stage first records its declared data: what its code reports later under that name adds to it.
        if data.name in declared:
            found.setdefault(data.name, data)
    if lacking := sorted(declared.keys() - found.keys()):
        raise InvalidDataset(
            f"the record does not say what was read of data set '{lacking[0]}'",
            do="A version can be run again only from a whole record",
        )
    return found


def _check_declared(data: "DatasetRecord", *, pinned: str | None) -> str | None:
    from modelway.artifacts.dataset import read_dataset

    found = read_dataset(name=data.name, uri=data.uri, digest=pinned, version=data.version).digest
    if found is None or data.digest is None:
        return _line(data, "nothing identifies its content")
    if not pinned and found != data.digest:
        raise _changed(data, found)
    return None


def _check_reported(data: "DatasetRecord", *, jobs: Path) -> str | None:
    """Check a data set that only the run's code reported, by whichever address and digest it chose."""
    from modelway.artifacts.dataset import fingerprint, local_path

    path = local_path(data.uri)
    if path is not None and path.is_relative_to(jobs):
        return _line(data, "it is in the folder of a job, which makes it again")
    if path is None and (data.digest is None or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", data.uri)):
        return _line(data, "the run reported no digest of it" if data.digest is None else "its address is not a URI")
    if path is not None and not (own := _sha256(data.digest)):
        if not path.exists():
            raise InvalidDataset(f"data set '{data.name}' is not there", where=data.uri, do=_CHANGED)
        return _line(data, "the run reported no SHA-256 of it")
    try:
        found = fingerprint(data.uri, name=data.name)
    except DatasetUnavailable as error:
        return _line(data, str(error.what))
    if path is not None:
        if found != own:
            raise _changed(data, found)
        return None
    # Stores use digests of different kinds: only two of one kind can be compared.
    kind = str(data.digest).partition(":")[0]
    if found is None or found.partition(":")[0] != kind:
        return _line(data, "its store has no such digest of it")
    if found != data.digest:
        raise _changed(data, found)
    return None


def _sha256(digest: str | None) -> str | None:
    """Return a SHA-256 in the form that data sets have; None for any other digest."""
    found = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})", digest or "", flags=re.IGNORECASE)
    return f"sha256:{found[1].lower()}" if found else None


def _line(data: "DatasetRecord", why: str) -> str:
    return f"data set '{data.name}' ({data.uri or 'without an address'}) was not checked: {why}"


def _changed(data: "DatasetRecord", found: str | None) -> InvalidDataset:
    return InvalidDataset(
        f"data set '{data.name}' has changed: it is {found}, and the run read {data.digest}",
        where=data.uri,
        do=_CHANGED,
    )
