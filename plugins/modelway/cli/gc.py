"""``modelway gc``: remove from the artifact store what no retained version needs."""

import argparse
import contextlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._lineage import lineage_if_any
from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError, UnknownModel, UnknownVersion
from modelway.lineage.records.readable import plural, time_text

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

_KEEP, _OLDER_THAN = 10, "30d"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``gc``."""
    gc = subparsers.add_parser(
        "gc",
        help="remove files that no retained version needs",
        description="Remove from the artifact store the archives, checkpoints, code packages and assets' files that no "
        "retained version needs. Retained is what an alias, traffic, a reference of a retained version or the newest "
        "versions need, the checkpoints that a model's section keep names, and everything young. Code, inputs and "
        "output of old jobs are removed too, of this machine and on the storage of jobs on Kubernetes. The records "
        "stay and say what was removed.",
    )
    gc.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    keep = f"how many of the newest versions of each model and asset stay; default: {_KEEP}"
    gc.add_argument("--keep", type=int, default=_KEEP, metavar="N", help=keep)
    older = f"what was stored later stays, such as 12h or 30d: runs that are not over need it; default: {_OLDER_THAN}"
    gc.add_argument("--older-than", default=_OLDER_THAN, metavar="AGE", help=older)
    gc.add_argument("--json", action="store_true", help="print JSON")
    gc.set_defaults(run=collect_garbage)


def collect_garbage(args: argparse.Namespace) -> int:
    """Remove garbage, or print what would be removed.

    :raises ModelwayError: the age or number cannot be used
    """
    from modelway.artifacts.store import ArtifactStore
    from modelway.assets.garbage import find_garbage, remove_garbage
    from modelway.cli.asset import actor
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.hooks.settings import load_settings

    if args.keep < 1:
        raise ModelwayError(f"--keep {args.keep} would keep no latest version", do="Keep at least 1")
    older_than, store = _age(args.older_than), ArtifactStore(load_settings().artifact_root)
    rule, lineage = {"keep": args.keep, "older_than": older_than}, lineage_if_any()
    if args.dry_run:
        found = find_garbage(lineage, store, **rule)
    else:
        found = remove_garbage(lineage and lineage_from_environment(), store, **rule, actor=actor())
    freed = discard_old_jobs(lineage, load_settings().home, older_than, dry_run=args.dry_run)
    if args.json:
        print_json(found)
        return 0
    listed = table("FILE", "BYTES", "STORED", "WHAT")
    for file in found.files:
        name = file.uri.removeprefix(f"{store.root}/")
        listed.add_row(name, f"{file.size:,}", time_text(file.modified), file.what)
    if found.files:
        print_table(listed)
    verb = "would remove" if args.dry_run else "removed"
    young = f"{found.young} of them younger than {args.older_than}"
    print(f"{verb} {plural(len(found.files), 'file')}, {found.size:,} bytes; {found.left} stay, {young}")
    if freed:
        print(f"{verb} {freed:,} bytes of the folders of jobs that ended long ago")
    return 0


def discard_old_jobs(lineage: "Lineage | None", home: Path, older_than: timedelta, *, dry_run: bool = False) -> int:
    """Remove code, inputs and output of old jobs; return how many bytes became free.

    Of this machine, and where the spec of a model's latest version has the storage of its jobs. A model whose spec
    keeps them longer (``keep.time``) keeps them. A storage that cannot be reached is named, and left.

    :param dry_run: remove nothing, and return what would become free
    """
    from modelway.backends.base import OwnFolders, load_backend

    specs = _latest_specs(lineage) if lineage else {}
    freed, local = 0, load_backend("local", home=home)
    if isinstance(local, OwnFolders):
        for model in local.models():
            before = _before(specs.get(model, {}), older_than)
            freed += local.discard_old(model=model, before=before, dry_run=dry_run)
    for model, spec in specs.items():
        before = _before(spec, older_than)
        for name in _backends_elsewhere(spec):
            try:
                storage = spec["storage"]
                freed += _discard_stored(name, home, model=model, before=before, storage=storage, dry_run=dry_run)
            except ModelwayError as error:
                print(f"the folders of jobs of {model} stay: {error}", file=sys.stderr)
    return freed


def _latest_specs(lineage: "Lineage") -> dict[str, Mapping[str, Any]]:
    """Return by model the spec of its latest version."""
    specs: dict[str, Mapping[str, Any]] = {}
    for summary in lineage.models():
        with contextlib.suppress(UnknownModel, UnknownVersion):
            specs[summary.name] = lineage.version(summary.name, lineage.find(summary.name, "latest")).run.spec or {}
    return specs


def _before(spec: Mapping[str, Any], older_than: timedelta) -> datetime:
    """Return before when a job must have ended so that its folder goes."""
    from modelway.lineage.records.kept import KeepRule

    return datetime.now(UTC) - max(older_than, timedelta(seconds=KeepRule.of(spec).seconds))


def _backends_elsewhere(spec: Mapping[str, Any]) -> list[str]:
    """Return the backends of a spec whose jobs may have their folders on the storage that it names."""
    from modelway.spec.rules import backends_of

    return sorted({name for _, name in backends_of(spec)} - {"local"}) if spec.get("storage") else []


def _discard_stored(
    name: str, home: Path, *, model: str, before: datetime, storage: Mapping[str, Any], dry_run: bool
) -> int:
    # Airflow is loaded only where it may have the connection to a platform.
    from modelway.backends.base import JobFolders
    from modelway.hooks.backend import backend_from_airflow

    backend = backend_from_airflow(name, home=home)
    if not isinstance(backend, JobFolders):
        return 0
    return backend.discard_old(model=model, before=before, storage=storage, dry_run=dry_run)


def _age(text: str) -> timedelta:
    from modelway.fields.refusal import Refusal
    from modelway.fields.units import parse_duration

    try:
        return timedelta(seconds=parse_duration(text))
    except Refusal as error:
        raise ModelwayError(f"--older-than: {error.what}", do=error.do) from None
