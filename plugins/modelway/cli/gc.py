"""``modelway gc``: remove from the artifact store what no retained version needs."""

import argparse
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

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
        "output of old jobs of this machine are removed too. The records stay and say what was removed.",
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
    freed = 0 if args.dry_run else discard_old_jobs(lineage, load_settings().home, older_than)
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
        print(f"removed {freed:,} bytes of the folders of jobs that ended long ago")
    return 0


def discard_old_jobs(lineage: "Lineage | None", home: Path, older_than: timedelta) -> int:
    """Remove code, inputs and output of old jobs of this machine; return how many bytes became free.

    A model whose spec keeps them longer (``keep.time``) keeps them.
    """
    from modelway.backends.base import JobFolders, load_backend
    from modelway.lineage.records.kept import KeepRule

    backend = load_backend("local", home=home)
    if not isinstance(backend, JobFolders):
        return 0
    freed = 0
    for model in backend.models():
        rule = KeepRule()
        if lineage is not None:
            with contextlib.suppress(UnknownModel, UnknownVersion):
                rule = KeepRule.of(lineage.version(model, lineage.find(model, "latest")).run.spec or {})
        age = max(older_than, timedelta(seconds=rule.seconds))
        freed += backend.discard_old(model=model, before=datetime.now(UTC) - age)
    return freed


def _age(text: str) -> timedelta:
    from modelway.fields.refusal import Refusal
    from modelway.fields.units import parse_duration

    try:
        return timedelta(seconds=parse_duration(text))
    except Refusal as error:
        raise ModelwayError(f"--older-than: {error.what}", do=error.do) from None
