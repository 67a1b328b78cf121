"""``modelway gc``: take out of the artifact store what no version that is kept reaches."""

import argparse
from datetime import timedelta

from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError

_KEEP, _OLDER_THAN = 10, "30d"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``gc``."""
    gc = subparsers.add_parser(
        "gc",
        help="remove files that no retained version needs",
        description="Remove from the artifact store the archives, checkpoints, code packages and assets' files that no "
        "kept version reaches. Kept is what an alias, traffic, a reference of a kept version or the newest versions "
        "reach, and everything young. The records stay and tell what was removed.",
    )
    gc.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    keep = f"how many of the newest versions of each model and asset stay; default: {_KEEP}"
    gc.add_argument("--keep", type=int, default=_KEEP, metavar="N", help=keep)
    older = f"what was stored later stays, such as 12h or 30d: runs that are not over need it; default: {_OLDER_THAN}"
    gc.add_argument("--older-than", default=_OLDER_THAN, metavar="AGE", help=older)
    gc.add_argument("--json", action="store_true", help="print JSON")
    gc.set_defaults(run=collect_garbage)


def collect_garbage(args: argparse.Namespace) -> int:
    """Remove garbage, or tell of it.

    :raises ModelwayError: the age or number cannot be used
    """
    from modelway.artifacts.store import ArtifactStore
    from modelway.assets.garbage import find_garbage, remove_garbage
    from modelway.cli.asset import actor
    from modelway.hooks.settings import load_settings

    if args.keep < 1:
        raise ModelwayError(f"--keep {args.keep} would keep no latest version", do="Keep at least 1")
    older_than, settings = _age(args.older_than), load_settings()
    store, rule = ArtifactStore(settings.artifact_root), {"keep": args.keep, "older_than": older_than}
    if args.dry_run:
        found = find_garbage(settings.lineage_url, store, **rule)
    else:
        found = remove_garbage(settings.lineage_url, store, **rule, actor=actor())
    if args.json:
        print_json(found)
        return 0
    listed = table("FILE", "BYTES", "STORED", "WHAT")
    for file in found.files:
        name = file.uri.removeprefix(f"{store.root}/")
        listed.add_row(name, f"{file.size:,}", f"{file.modified:%Y-%m-%d %H:%M}Z", file.what)
    if found.files:
        print_table(listed)
    verb = "would remove" if args.dry_run else "removed"
    young = f"{found.young} of them younger than {args.older_than}"
    print(f"{verb} {len(found.files)} {_files(len(found.files))}, {found.size:,} bytes; {found.left} stay, {young}")
    return 0


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _age(text: str) -> timedelta:
    from modelway.fields.refusal import Refusal
    from modelway.fields.units import parse_duration

    try:
        return timedelta(seconds=parse_duration(text))
    except Refusal as error:
        raise ModelwayError(f"--older-than: {error.what}", do=error.do) from None
