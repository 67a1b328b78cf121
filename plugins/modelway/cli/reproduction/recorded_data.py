"""Whether the data that a run read is what it was: the model spec's data sets, and those that its jobs told of."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.errors import DatasetUnavailable, InvalidDataset

if TYPE_CHECKING:
    from modelway.lineage.records.version import DatasetRecord, RunRecord

_CHANGED = "Bring the data of then back; nothing was run"


def check_data(run: "RunRecord", *, declared: Mapping[str, Any], jobs: Path) -> tuple[str, ...]:
    """Return a line for each data set of which nothing can tell whether it is what it was.

    :param declared: the model spec's data sets
    :param jobs: the folder of the jobs on this machine: what a run wrote there, it makes again
    :raises InvalidDataset: one is gone, or holds something else than the run read; or the record lacks one
    :raises DigestMismatch: one is not what the model spec says
    """
    given = given_data(run, declared=declared)
    unchecked = [_check_given(data, pinned=declared[name].get("digest")) for name, data in given.items()]
    places = {(data.name, data.uri) for data in given.values()}
    told = {(data.name, data.uri, data.digest): data for data in run.datasets if (data.name, data.uri) not in places}
    unchecked += [_check_told(data, jobs=jobs) for data in told.values()]
    return tuple(line for line in unchecked if line)


def given_data(run: "RunRecord", *, declared: Mapping[str, Any]) -> dict[str, "DatasetRecord"]:
    """Return what the run was given for each data set of the model spec.

    :raises InvalidDataset: the record does not tell
    """
    found: dict[str, DatasetRecord] = {}
    for data in run.datasets:
        # A stage first records what it was given: what its code then tells under that name is more about it.
        if data.name in declared:
            found.setdefault(data.name, data)
    if lacking := sorted(declared.keys() - found.keys()):
        raise InvalidDataset(
            f"of data set '{lacking[0]}' the record does not tell what was read",
            do="A version can be run again only from a whole record",
        )
    return found


def _check_given(data: "DatasetRecord", *, pinned: str | None) -> str | None:
    from modelway.artifacts.dataset import read_dataset

    found = read_dataset(name=data.name, uri=data.uri, digest=pinned, version=data.version).digest
    if found is None or data.digest is None:
        return _line(data, "nothing tells its content")
    if not pinned and found != data.digest:
        raise _changed(data, found)
    return None


def _check_told(data: "DatasetRecord", *, jobs: Path) -> str | None:
    """Look at a data set of which only the run's code has told, by whatever address and digest it chose."""
    from modelway.artifacts.dataset import fingerprint, local_path

    path = local_path(data.uri)
    if path is not None and path.is_relative_to(jobs):
        return _line(data, "it lies in the folder of a job, which makes it again")
    if path is None and (data.digest is None or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", data.uri)):
        return _line(data, "the run told no digest of it" if data.digest is None else "its address is none")
    if path is not None and not (own := _sha256(data.digest)):
        if not path.exists():
            raise InvalidDataset(f"data set '{data.name}' is not there", where=data.uri, do=_CHANGED)
        return _line(data, "the run told no SHA-256 of it")
    try:
        found = fingerprint(data.uri, name=data.name)
    except DatasetUnavailable as error:
        return _line(data, str(error.what))
    if path is not None:
        if found != own:
            raise _changed(data, found)
        return None
    # A store says what it likes of its objects: only two words of a kind can be compared.
    kind = str(data.digest).partition(":")[0]
    if found is None or found.partition(":")[0] != kind:
        return _line(data, "its store tells no such digest of it")
    if found != data.digest:
        raise _changed(data, found)
    return None


def _sha256(digest: str | None) -> str | None:
    """Return a SHA-256 as data sets have it; None for any other digest."""
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
