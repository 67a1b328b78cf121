"""Code, inputs and output of jobs that ended before a time: removed from the storage that has them, or only counted."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from modelway.backends.base import JobStatus
from modelway.backends.folders import generations, object_store
from modelway.backends.folders.stored import StoredFolders

Status = Callable[[Path], JobStatus]
_GENERATION = re.compile(r"g\d{1,9}")
_PARTS = (*generations.OWN_FOLDERS, object_store.PREPARED)


def discard_old(folders: StoredFolders, model: Path, *, status: Status, before: float, dry_run: bool) -> int:
    """Remove them and return how many bytes became free.

    :param model: the folder of the model's runs, or this process's copy of it
    :param status: returns the status of an attempt
    :param before: in seconds since the epoch
    :param dry_run: remove nothing, and return what would become free
    :raises SubmitFailed: the object store does not answer
    """
    if folders.is_copy(model):
        return _discard_stored(folders, model, status=status, before=before, dry_run=dry_run)
    remove = generations.size_of_parts if dry_run else generations.discard_parts
    discard = partial(generations.discard, status=status, before=before, remove=remove)
    return sum(map(discard, sorted(model.glob("*"))))


def _discard_stored(folders: StoredFolders, model: Path, *, status: Status, before: float, dry_run: bool) -> int:
    """Do so on an object store: one listing says what is old, and only of that more is requested."""
    uri, freed = folders.place(model), 0
    with object_store.translate_errors(uri):
        found = object_store.objects_in(uri=uri)
    for job, sizes in _old_generations(found, before).items():
        with generations.locked(model / job, do="Make it writable for this user"):
            folders.pull_job(model / job)
            for name, size in sizes.items():
                generation = model / job / name
                if not all(status(each).state.is_terminal for each in generations.numbered(generation, "try-*")):
                    continue
                freed += size
                if not dry_run:
                    folders.discard_parts(generation)
    return freed


def _old_generations(found: Mapping[str, tuple[int, float]], before: float) -> dict[str, dict[str, int]]:
    """Return, by job and generation, the bytes that can be removed of those in which nothing was written since."""
    sizes: dict[tuple[str, str], int] = {}
    newest: dict[tuple[str, str], float] = {}
    for path, (size, written) in found.items():
        run, key, generation, part, *_ = (*path.split("/"), "", "", "")
        if not _GENERATION.fullmatch(generation):
            continue
        at = (f"{run}/{key}", generation)
        newest[at] = max(newest.get(at, written), written)
        if part in _PARTS:
            sizes[at] = sizes.get(at, 0) + size
    old: dict[str, dict[str, int]] = {}
    for (job, generation), size in sizes.items():
        if newest[job, generation] < before:
            old.setdefault(job, {})[generation] = size
    return old
