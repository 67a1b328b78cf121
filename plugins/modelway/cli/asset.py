"""``modelway asset …``: files that belong together under a name, in versions that never change."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._lineage import lineage_if_any
from modelway.cli.output.tables import print_json
from modelway.errors import ModelwayError, UnknownAsset
from modelway.lineage.records.readable import plural

if TYPE_CHECKING:
    from modelway.artifacts.store import ArtifactStore
    from modelway.assets.folder import AssetFolder
    from modelway.lineage.store import Assets

_VERSION = "NAME for the latest version, NAME@3, or NAME:alias; NAME:v3 is what the model's version 3 is"
_VERSION_HELP = f"{_VERSION}; NAME 3 is NAME@3, NAME alias is NAME:alias"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``asset`` and its actions."""
    asset = subparsers.add_parser("asset", help="store files under a name, in versions, with references between them")
    actions = asset.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_folder_actions(actions)
    _add_store_actions(actions)


def _add_folder_actions(actions: Any) -> None:
    init = _action(actions, "init", init_asset, "make an asset's folder here, or make a folder that is here one")
    init.add_argument("name", metavar="NAME")
    init.add_argument("--description", metavar="TEXT")
    add = _action(actions, "add", add_files, "put files into an asset's folder; of folders, all that is not hidden")
    add.add_argument("name", metavar="NAME")
    add.add_argument("files", metavar="FILE", nargs="*")
    add.add_argument("--as", dest="path", metavar="PATH", help="what the file is called within the asset")
    add.add_argument("--remove", metavar="PATH", action="append", default=[], help="leave a file out again")
    alias = _action(actions, "alias", point_alias, "point an alias at a version, or at the one uploaded next")
    alias.add_argument("version", metavar="NAME", help=f"the folder here, for its next upload; or {_VERSION}")
    alias.add_argument("alias", metavar="ALIAS")
    alias.add_argument("--reason", default="", metavar="TEXT")
    ref = _action(actions, "ref", add_reference, "refer to a version of another asset, as it is at the upload")
    ref.add_argument("name", metavar="NAME")
    ref.add_argument("target", metavar="OTHER", help=_VERSION)
    ref.add_argument("--as", dest="reference", metavar="NAME", help="what it is called here; default: as the asset is")


def _add_store_actions(actions: Any) -> None:
    upload = _action(actions, "upload", upload_assets, "store the folders' files and record them as versions")
    upload.add_argument("names", metavar="NAME", nargs="+", help="in this order: what is referred to comes first")
    upload.add_argument("--message", default="", metavar="TEXT")
    download = _action(actions, "download", download_assets, "bring a version into a folder of its name")
    download.add_argument("version", metavar="VERSION", nargs="+", help=_VERSION_HELP)
    download.add_argument("--refs", action="store_true", help="bring what it refers to as well, into folders beside it")
    download.add_argument("--to", default=".", metavar="FOLDER", help="where the folders are made; default: here")
    find = _action(actions, "find", find_content, "show which assets and models have a content, under any name")
    find.add_argument("content", metavar="FILE|sha256:…")
    find.add_argument("--json", action="store_true", help="print JSON")
    every = _action(actions, "list", list_assets, "list every asset with its newest version")
    every.add_argument("--json", action="store_true", help="print JSON")
    show = _action(actions, "show", show_version, "show a version: files, references, who refers to it")
    show.add_argument("version", metavar="VERSION", nargs="+", help=_VERSION_HELP)
    show.add_argument("--json", action="store_true", help="print JSON")
    history = _action(actions, "history", show_history, "list an asset's versions and the moves of its aliases")
    history.add_argument("name", metavar="NAME")
    history.add_argument("--json", action="store_true", help="print JSON")
    diff = _action(actions, "diff", show_diff, "show how a version differs from another")
    diff.add_argument("versions", metavar="BEFORE AFTER | NAME 1 2", nargs="+", help=_VERSION)
    diff.add_argument("--json", action="store_true", help="print JSON")


def _action(actions: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def init_asset(args: argparse.Namespace) -> int:
    """Make an asset's folder."""
    from modelway.assets.folder import init_folder

    folder = init_folder(Path(), args.name, description=args.description)
    print(f"{folder.place}/ is the folder of asset {args.name}")
    return 0


def add_files(args: argparse.Namespace) -> int:
    """Add files, or leave them out."""
    folder = _folder(args.name)
    if not args.files and not args.remove:
        raise ModelwayError("nothing to add was named", do=f"modelway asset add {args.name} FILE")
    if args.remove:
        folder.drop(args.remove)
    added = folder.add([Path(file) for file in args.files], path=args.path) if args.files else []
    for path in added:
        print(f"{args.name}: added {path}")
    for path in args.remove:
        print(f"{args.name}: left out {path}")
    return 0


def point_alias(args: argparse.Namespace) -> int:
    """Point an alias at a version, or record it for the next upload."""
    from modelway.artifacts.asset_names import parse_wanted
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.lineage.records.alias import check_alias

    check_alias(args.alias)
    wanted = parse_wanted(args.version)
    if args.version == wanted.name and (folder := _folder(wanted.name)).is_there:
        draft = folder.read()
        folder.write(replace(draft, aliases=sorted({*draft.aliases, args.alias})))
        print(f"{wanted.name}: the version that is uploaded next becomes {wanted.name}:{args.alias}")
        return 0
    _assets(args.version)
    assets = lineage_from_environment().assets
    moved = assets.set_alias(args.version, args.alias, actor=actor(), reason=args.reason)
    number = assets.version(f"{wanted.name}:{args.alias}").summary.number
    print(f"{wanted.name}:{args.alias} is {wanted.name}@{number}" + ("" if moved else " already"))
    return 0


def add_reference(args: argparse.Namespace) -> int:
    """Record a reference for the next upload."""
    from modelway.artifacts.asset_names import check_asset_name, parse_wanted

    folder, target = _folder(args.name), parse_wanted(args.target)
    reference = check_asset_name(args.reference or target.name, what="a reference")
    draft = folder.read()
    if target.name == draft.name:
        raise ModelwayError(f"asset '{draft.name}' cannot refer to itself", do="Refer to another asset")
    folder.write(replace(draft, references={**draft.references, reference: str(target)}))
    print(f"{args.name}: refers to {target} as {reference}")
    return 0


def upload_assets(args: argparse.Namespace) -> int:
    """Upload folders, one after another."""
    from modelway.assets.transfer import upload_asset
    from modelway.hooks.lineage import lineage_from_environment

    folders = [_folder(name) for name in args.names]
    for folder in folders:
        folder.read()
    assets, store = lineage_from_environment().assets, _store()
    for folder in folders:
        done = upload_asset(assets, store, folder, actor=actor(), message=args.message)
        print(f"{done.name}@{done.number}" + (" uploaded" if done.is_new else ": nothing new, it is there already"))
        for alias in done.moved:
            print(f"{done.name}:{alias} is {done.name}@{done.number}")
    return 0


def download_assets(args: argparse.Namespace) -> int:
    """Download a version, and what it refers to where that was requested."""
    from modelway.assets.transfer import download_asset

    to, wanted = Path(args.to), _version(args.version)
    for done in download_asset(_assets(wanted), _store(), wanted, to=to, with_references=args.refs):
        present = len(done.detail.files) - done.brought
        files = plural(done.brought, "file") + (f", {present} there already" if present else "")
        print(f"{done.detail.summary.asset}@{done.detail.summary.number} in {done.folder}/: {files}")
    return 0


def find_content(args: argparse.Namespace) -> int:
    """Print who has a content."""
    from modelway.artifacts.store import file_digest
    from modelway.cli.output.asset_text import print_holders

    digest = args.content
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        if not Path(digest).is_file():
            do = "Name a file, or write sha256: and 64 hexadecimal digits"
            raise ModelwayError(f"'{digest}' is neither a file nor a digest", do=do)
        digest = file_digest(Path(digest))
    found = _assets(digest).find_by_digest(digest)
    if args.json:
        print_json(found)
    elif found:
        print_holders(found)
    else:
        print(f"no asset and no model has {digest}")
    return 0 if found else 1


def list_assets(args: argparse.Namespace) -> int:
    """List every asset with its newest version."""
    from modelway.cli.output.asset_text import print_versions

    found = _assets("").newest()
    (print_json if args.json else print_versions)(found)
    return 0


def show_version(args: argparse.Namespace) -> int:
    """Show a version."""
    from modelway.cli.output.asset_text import print_detail

    wanted = _version(args.version)
    found = _assets(wanted).version(wanted)
    (print_json if args.json else print_detail)(found)
    return 0


def show_history(args: argparse.Namespace) -> int:
    """Show the history of an asset."""
    from modelway.cli.output.asset_text import print_history

    found = _assets(args.name).history(args.name)
    (print_json if args.json else print_history)(found)
    return 0


def show_diff(args: argparse.Namespace) -> int:
    """Show how two versions differ."""
    from modelway.cli.output.asset_text import print_diff
    from modelway.lineage.compare.assets import asset_difference

    before, after = _two_versions(args.versions)
    assets = _assets(before)
    found = asset_difference(assets.version(before), assets.version(after))
    (print_json if args.json else print_diff)(found)
    return 0


def _version(arguments: Sequence[str]) -> str:
    """Return the version that the arguments name, as one name: of ``labels 3`` it is ``labels@3``.

    :raises ModelwayError: they name more than one
    """
    if len(arguments) == 1:
        return arguments[0]
    if len(arguments) != 2 or re.search("[@:]", arguments[0]):
        raise ModelwayError("one version is named", do="Write NAME, NAME@3 or NAME:alias")
    return f"{arguments[0]}{'@' if arguments[1].isdecimal() else ':'}{arguments[1]}"


def _two_versions(arguments: Sequence[str]) -> tuple[str, str]:
    """Return the two versions that the arguments name: ``labels@1 labels@2``, or ``labels 1 2``.

    :raises ModelwayError: they do not name two
    """
    if len(arguments) not in (2, 3):
        raise ModelwayError("two versions are compared", do="Write NAME 1 2, or NAME@1 OTHER:alias")
    *name, before, after = arguments
    return _version([*name, before]), _version([*name, after])


def _folder(name: str) -> "AssetFolder":
    """Return the asset's folder here."""
    from modelway.artifacts.asset_names import check_asset_name
    from modelway.assets.folder import AssetFolder

    return AssetFolder(Path(check_asset_name(name)))


def _store() -> "ArtifactStore":
    from modelway.artifacts.store import ArtifactStore
    from modelway.hooks.settings import load_settings, make_private

    settings = load_settings()
    make_private(settings.home)
    return ArtifactStore(settings.artifact_root)


def _assets(wanted: str) -> "Assets":
    """Return the assets in the lineage, to be read; where nothing was ever written, ``wanted`` does not exist."""
    lineage = lineage_if_any()
    if lineage is None:
        raise UnknownAsset(
            (f"nothing is known of '{wanted}': " if wanted else "there are no assets: ") + "the lineage is empty",
            do="Upload an asset, or set MODELWAY_HOME or MODELWAY_LINEAGE_URL to where it was recorded",
        )
    return lineage.assets


def actor() -> str:
    """Return who runs the command."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many containers.
        return "unknown"
