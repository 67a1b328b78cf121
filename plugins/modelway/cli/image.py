"""``modelway image …``: the images of versions, built, read, checked, compared and copied by hand."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelway.cli._lineage import add_version, read_lineage, read_version
from modelway.cli.output.tables import print_facts, print_json, print_table, table
from modelway.errors import ImageInvalid, ModelwayError

if TYPE_CHECKING:
    from modelway.oci.manifest import Descriptor, ImageSource, LayoutReference, RegistryReference
    from modelway.oci.summary import ImageSummary

_REFERENCE = "<host>/<repository>@sha256:…, <host>/<repository>:<tag>, or oci-layout:/<folder>@sha256:…"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``image`` and its actions."""
    image = subparsers.add_parser("image", help="build, inspect, pull, verify, compare and copy images of versions")
    actions = image.add_subparsers(title="actions", required=True, metavar="ACTION")
    build = _action(actions, "build", build_image, "build, push and record the image of a registered version")
    add_version(build)
    build.add_argument("--repository", metavar="HOST/REPOSITORY", help="where to push; default: a layout folder here")
    build.add_argument("--layout", type=Path, metavar="FOLDER", help="a layout folder to write, with or without a push")
    build.add_argument("--base", default="scratch", metavar="IMAGE", help="scratch, server, or an image by its digest")
    build.add_argument("--path", default="/models", metavar="PATH", help="the model's folder in the image")
    build.add_argument("--tag", metavar="TAG", help="default: v and the version's number")
    build.add_argument("--order", action="append", default=[], metavar="PATTERN", help="weights that come first")
    build.add_argument("--modelpack", action="store_true", help="push a ModelPack manifest of the same layers as well")
    inspect = _action(actions, "inspect", inspect_image, "print layers, annotations and referrers")
    pull = _action(actions, "pull", pull_image, "unpack an image into a folder, with every digest checked")
    verify = _action(actions, "verify", verify_image, "read all of an image: digests, files of a version, signature")
    diff = _action(actions, "diff", diff_images, "show which layers differ, and what a node must fetch")
    copy = _action(actions, "copy", copy_image, "copy an image with its digest and referrers")
    for action in (inspect, pull, verify, copy):
        action.add_argument("reference", metavar="REFERENCE", help=_REFERENCE)
    pull.add_argument("folder", type=Path, metavar="FOLDER", help="the image is unpacked into a folder in it")
    verify.add_argument("version", nargs="*", metavar="MODEL VERSION", help="whose files must be in the image")
    verify.add_argument("--key", type=Path, metavar="FILE", help="the public key (PEM) that must have signed it")
    for name in ("before", "after"):
        diff.add_argument(name, metavar=name.upper(), help=_REFERENCE)
    copy.add_argument("to", metavar="HOST/REPOSITORY[:TAG] | oci-layout:/FOLDER")
    for action in (inspect, diff):
        action.add_argument("--json", action="store_true", help="print JSON")
    for action in (build, inspect, pull, verify, diff, copy):
        action.add_argument("--insecure", action="store_true", help="speak HTTP with the registry")


def _action(actions: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def build_image(args: argparse.Namespace) -> int:
    """Build the image of a version, push it where a repository is named, and record it."""
    from modelway.artifacts.store import ArtifactStore
    from modelway.builders.base import BuildOptions
    from modelway.cli.asset import actor
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.hooks.settings import load_settings
    from modelway.runs.image_contents import build_version_image
    from modelway.runs.messages.version import RegisteredVersion

    settings, (model, wanted) = load_settings(), read_version(args.version)
    known = read_lineage()
    login = _login((args.repository or "").partition("/")[0])
    found = known.version(model, known.find(model, wanted)).summary
    version = RegisteredVersion.of(found, blocked_reason=None, requested=True)
    options = BuildOptions(
        name=model,
        layout=(args.layout or settings.image_layout) if args.layout or not args.repository else None,
        tag=args.tag or f"v{found.number}",
        repository=args.repository,
        username=login.username,
        password=login.password,
        insecure=args.insecure,
        known_layers=settings.known_layers,
        signing_key=settings.signing_key,
        platform={"order": args.order, "modelpack": args.modelpack},
    )
    store, base = ArtifactStore(settings.artifact_root), settings.base_image(args.base)
    made = build_version_image(
        version,
        archive=store.readable_file(version.archive),
        store=store,
        base=base,
        path=args.path,
        builder="oci",
        options=options,
    )
    lineage_from_environment().record_image(
        model=model, version=found.number, builder="oci", digest=made.digest, reference=made.reference, actor=actor()
    )
    print(f"{made.reference} ({made.tag}, {made.size:,} bytes in {len(made.layers)} layers)")
    return 0


def inspect_image(args: argparse.Namespace) -> int:
    """Print an image's manifest in short."""
    summary = _summary(args.reference, args)
    if args.json:
        print_json({**asdict(summary), "size": summary.size})
        return 0
    facts = {"digest": summary.digest, "bytes": f"{summary.size:,}"}
    if summary.artifact_type:
        facts["artifact"] = summary.artifact_type
    print_facts({**facts, **dict(summary.annotations)})
    _print_layers({"": summary.layers})
    for kind, digest in summary.referrers:
        print(f"referred to by {digest}  {kind}")
    return 0


def pull_image(args: argparse.Namespace) -> int:
    """Unpack an image."""
    from modelway.oci.images import unpack_image

    reference, login = _pinned(args.reference, args)
    folder = unpack_image(
        reference=str(reference),
        into=args.folder,
        username=login.username,
        password=login.password,
        insecure=args.insecure,
    )
    print(folder)
    return 0


def verify_image(args: argparse.Namespace) -> int:
    """Read all of an image.

    :raises ImageInvalid: something is not what it should be
    """
    from modelway.oci.check import check_image

    with _opened(args.reference, args) as (source, digest):
        checked = check_image(source, digest)
        print(
            f"{digest}: {len(checked.image.layers)} layers and {len(checked.files)} files are what their digests name"
        )
        if args.version:
            print(_check_files(checked.files, *read_version(args.version), where=source.where))
        if args.key:
            _check_signature(source, digest, args.key)
            print(f"signed with {args.key}")
    return 0


def _check_files(files: Any, model: str, wanted: str, *, where: str) -> str:
    """Compare an image's files with those of a version as the lineage has them; return what to print."""
    from modelway.runs.image_contents import SERVED

    lineage = read_lineage()
    detail = lineage.version(model, lineage.find(model, wanted))
    served = [file for file in detail.files if file.path.startswith(SERVED)]
    for file in served:
        found = {digest for path, digest in files.items() if path.endswith(f"/{file.path}")}
        # A right file does not vouch for a wrong one in another folder: which of them is served is not known here.
        if found != {file.digest}:
            others = ", ".join(sorted(found - {file.digest}))
            is_what = f"has {others} instead of {file.digest}" if others else "is missing"
            raise ImageInvalid(f"the file '{file.path}' of {model}@{detail.summary.number} {is_what}", where=where)
    return f"{len(served)} files are those of {model}@{detail.summary.number}"


def _check_signature(source: "ImageSource", digest: str, key: Path) -> None:
    """Check that the image's provenance is signed, and is of this image."""
    import json

    from modelway.oci.referrers import read_referrer, read_referrers
    from modelway.oci.signatures import ENVELOPE, opened
    from modelway.oci.sources import own_repository

    problem = ImageInvalid("no signature refers to the image", where=source.where, do="Build it with a signing key")
    if (own := own_repository(source)) is None:
        raise problem
    listed = read_referrers(client=own.client, repository=own.repository, digest=digest)
    for name in (name for kind, name in listed if kind == ENVELOPE):
        envelope = read_referrer(client=own.client, repository=own.repository, digest=name).data
        try:
            statement = json.loads(opened(envelope, key=key))
        except ImageInvalid as error:
            problem = error
            continue
        subjects = [subject.get("digest", {}).get("sha256") for subject in statement.get("subject") or ()]
        if digest.removeprefix("sha256:") in subjects:
            return
        problem = ImageInvalid("the signed provenance is of another image", where=source.where)
    raise problem


def diff_images(args: argparse.Namespace) -> int:
    """Print how an image differs from another."""
    from modelway.oci.summary import image_difference

    difference = image_difference(_summary(args.before, args), _summary(args.after, args))
    if args.json:
        print_json(asdict(difference))
        return 0
    fetched, again = (sum(layer.size for layer in each) for each in (difference.added, difference.unpacked_again))
    print(f"to fetch: {fetched:,} bytes in {len(difference.added)} layers; to unpack again: {again:,} bytes")
    _print_layers({"same": difference.same, "added": difference.added, "removed": difference.removed})
    for name, (before, after) in difference.annotations.items():
        print(f"{name}: {before or '-'} → {after or '-'}")
    return 0


def copy_image(args: argparse.Namespace) -> int:
    """Copy an image to another repository or into a layout folder."""
    from modelway.oci.layout import OciLayout
    from modelway.oci.manifest import parse_tagged
    from modelway.oci.registry import RegistryClient
    from modelway.oci.sources import own_repository
    from modelway.oci.transfer import copy_to_layout, copy_to_registry

    with _opened(args.reference, args) as (source, digest):
        if args.to.startswith("oci-layout:"):
            print(copy_to_layout(source=source, digest=digest, layout=OciLayout(Path(args.to.partition(":")[2]))))
            return 0
        host, repository, tag = parse_tagged(args.to)
        own = own_repository(source)
        mount_from = own.repository if own and own.client.host == host else None
        login = _login(host)
        with RegistryClient(
            host=host, username=login.username, password=login.password, insecure=args.insecure
        ) as client:
            copied = copy_to_registry(
                source=source, digest=digest, client=client, repository=repository, tag=tag, mount_from=mount_from
            )
    print(f"{copied.reference} ({copied.bytes_sent:,} bytes sent)")
    return 0


def _summary(reference: str, args: argparse.Namespace) -> "ImageSummary":
    """Return an image's summary, with its referrers where a registry has it."""
    from dataclasses import replace

    from modelway.oci.summary import read_summary

    with _opened(reference, args) as (source, digest):
        summary = read_summary(source, digest)
        if not reference.startswith("oci-layout:"):
            from modelway.oci.referrers import read_referrers
            from modelway.oci.sources import own_repository

            if own := own_repository(source):
                found = read_referrers(client=own.client, repository=own.repository, digest=digest)
                summary = replace(summary, referrers=tuple(found))
    return summary


@contextmanager
def _opened(reference: str, args: argparse.Namespace) -> "Iterator[tuple[ImageSource, str]]":
    """Open where an image is; give the source and the image's digest."""
    from modelway.oci.images import open_source

    pinned, login = _pinned(reference, args)
    with open_source(
        reference=pinned, username=login.username, password=login.password, insecure=args.insecure
    ) as source:
        yield source, pinned.digest


def _pinned(reference: str, args: argparse.Namespace) -> "tuple[LayoutReference | RegistryReference, _Login]":
    """Return a reference by digest, and the login of its registry."""
    from modelway.oci.images import pinned_reference

    login = _login(reference.partition("/")[0])
    pinned = pinned_reference(reference, username=login.username, password=login.password, insecure=args.insecure)
    return pinned, login


class _Login(NamedTuple):
    username: str | None = None
    password: str | None = None


def _login(host: str) -> _Login:
    """Return the login of the connection ``modelway_registry`` where it names this host; else Docker's is used."""
    from modelway.hooks.fields import fields_from_environment, registry_of
    from modelway.hooks.settings import REGISTRY_CONN_ID

    fields = fields_from_environment(REGISTRY_CONN_ID)
    if fields is None or not fields.login or registry_of(fields) != host:
        return _Login()
    return _Login(fields.login, fields.password)


def _print_layers(groups: "dict[str, tuple[Descriptor, ...]]") -> None:
    from modelway.oci.summary import PATH

    shown = table("LAYER", "BYTES", "KIND", "FILE", "") if len(groups) > 1 else table("LAYER", "BYTES", "KIND", "FILE")
    for word, layers in groups.items():
        for layer in layers:
            kind = layer.media_type.rpartition(".")[2] if layer.media_type.endswith(".tar") else layer.media_type
            row = (layer.digest, f"{layer.size:,}", kind, layer.annotations.get(PATH, "-"))
            shown.add_row(*row, *([word] if word else []))
    if not shown.row_count:
        raise ModelwayError("the image has no layers")
    print_table(shown)
