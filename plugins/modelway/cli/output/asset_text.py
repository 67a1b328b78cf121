"""Assets as the commands print them."""

from typing import TYPE_CHECKING

from modelway.cli.output.tables import print_facts, print_table, table
from modelway.lineage.records.readable import digest_text, plural, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelway.lineage.records.assets import (
        AssetDetail,
        AssetDiff,
        AssetHistory,
        AssetReference,
        AssetSummary,
        Holder,
    )


def print_holders(holders: "Sequence[Holder]") -> None:
    """Print who has a content."""
    listed = table("", "VERSION", "PATH", "BYTES", "CREATED", "BY")
    for each in holders:
        version = f"{each.name}@{each.number}" if each.kind == "asset" else f"{each.name} v{each.number}"
        created = time_text(each.created_at)
        listed.add_row(each.kind, version, each.path, f"{each.size:,}", created, each.created_by)
    print_table(listed)


def print_detail(detail: "AssetDetail") -> None:
    """Print the record of a version."""
    version = detail.summary
    facts = {
        "Asset": f"{version.asset}@{version.number}",
        "Description": detail.description or "-",
        "Aliases": " ".join(version.aliases) or "-",
        "Created": f"{time_text(version.created_at, to='seconds')} by {version.created_by}",
        "Message": version.message or "-",
        "Size": f"{version.size:,} bytes",
        "Digest": version.digest,
    }
    if version.model_version is not None:
        facts["Model"] = f"{version.asset} v{version.model_version}"
    print_facts(facts)
    gone = {each.uri: each for each in detail.removed}
    listed = table("FILE", "BYTES", "SHA256", "")
    for file in detail.files:
        removed = gone.get(file.uri)
        note = f"removed by {removed.actor} at {time_text(removed.at)} (modelway gc)" if removed else ""
        listed.add_row(file.path, f"{file.size:,}", file.digest.removeprefix("sha256:"), note)
    print()
    print_table(listed)
    _print_references("REFERENCE", "VERSION", detail.references)
    _print_references("REFERRED TO AS", "BY", detail.referred_by)


def _print_references(name: str, version: str, references: "Sequence[AssetReference]") -> None:
    if references:
        listed = table(name, version)
        for each in references:
            listed.add_row(each.name, _version(each))
        print()
        print_table(listed)


def print_versions(versions: "Sequence[AssetSummary]") -> None:
    """Print versions of assets, a line each."""
    listed = table("VERSION", "ALIASES", "BYTES", "CREATED", "BY", "MESSAGE")
    for each in versions:
        created = time_text(each.created_at)
        aliases = " ".join(each.aliases) or "-"
        row = (f"{each.asset}@{each.number}", aliases, f"{each.size:,}", created, each.created_by, each.message or "-")
        listed.add_row(*row)
    print_table(listed)


def print_history(history: "AssetHistory") -> None:
    """Print the versions of an asset and the moves of its aliases."""
    print_versions(history.versions)
    moves = table("ALIAS", "VERSION", "AT", "BY", "REASON")
    for move in history.moves:
        version = "-" if move.number is None else f"{history.name}@{move.number}"
        moves.add_row(move.alias, version, time_text(move.at), move.actor, move.reason or "-")
    if history.moves:
        print()
        print_table(moves)


def print_diff(diff: "AssetDiff") -> None:
    """Print how two versions differ."""
    listed = table("", "PATH", "BYTES", "SHA256")
    for file in diff.added:
        listed.add_row("added", file.path, f"{file.size:,}", digest_text(file.digest))
    for file in diff.removed:
        listed.add_row("removed", file.path, f"{file.size:,}", digest_text(file.digest))
    for before, after in diff.changed:
        digests = f"{digest_text(before.digest)} -> {digest_text(after.digest)}"
        listed.add_row("changed", after.path, f"{before.size:,} -> {after.size:,}", digests)
    for name, was, becomes in diff.references:
        listed.add_row("reference", name, "", f"{_version(was)} -> {_version(becomes)}")
    if listed.row_count:
        print_table(listed)
    print(f"{plural(diff.same, 'file')} the same")


def _version(reference: "AssetReference | None") -> str:
    return f"{reference.asset}@{reference.number}" if reference else "none"
