"""``modelway lineage upstream|downstream|find``: what came out of what, and where a file is."""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._lineage import read_lineage, read_version
from modelway.cli.lint import printable
from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError
from modelway.lineage.records.readable import time_text

if TYPE_CHECKING:
    from modelway.lineage.records.answers import GraphNode, LineageGraph

_WHAT = (
    "MODEL, MODEL 3, MODEL@3, MODEL@champion, an asset (NAME, NAME@3, NAME:alias), a data set by name or URI, a "
    "commit, an endpoint, DAG/RUN, or a digest; dataset:NAME, commit:…, image:… and so on say which is meant"
)


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``lineage`` and its actions."""
    lineage = subparsers.add_parser("lineage", help="show what came out of what, and find a file by its content")
    actions = lineage.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, text in (("upstream", "show what something came out of"), ("downstream", "show what came out of it")):
        walk = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        walk.add_argument("what", metavar="WHAT", nargs="+", help=_WHAT)
        walk.add_argument("--depth", type=_number, default=20, metavar="N", help="how far to go (default: 20)")
        walk.add_argument("--most", type=_number, default=500, metavar="N", help="things to show (default: 500)")
        walk.add_argument("--json", action="store_true", help="print nodes and edges as JSON")
        walk.set_defaults(run=show_graph, direction=name)
    text = "show which versions, runs, data sets, images and assets have a file"
    find = actions.add_parser("find", aliases=["who-has"], help=text, description=f"{text[0].upper()}{text[1:]}.")
    find.add_argument("content", metavar="FILE|sha256:…", help="a file here, under any name, or its digest")
    find.add_argument("--json", action="store_true", help="print JSON")
    find.set_defaults(run=find_file)


def _number(text: str) -> int:
    value = int(text)
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError("must lie within 1 and 100,000")
    return value


def show_graph(args: argparse.Namespace) -> int:
    """Print what is upstream or downstream as a tree.

    :raises UnknownVersion: nothing has this name
    :raises ModelwayError: several arguments name no version
    """
    graph_of = read_lineage().graph
    walk = graph_of.upstream if args.direction == "upstream" else graph_of.downstream
    what = args.what[0] if len(args.what) == 1 else "@".join(read_version(args.what))
    graph = walk(what, steps=args.depth, most=args.most)
    if args.json:
        print_json(graph)
        return 0
    for line in _lines(graph):
        print(printable(line))
    return 0


def _lines(graph: "LineageGraph") -> Iterator[str]:
    from modelway.lineage.graph.tree import tree

    for step in tree(graph):
        relation = f"{step.relation}: " if step.relation else ""
        yield f"{'  ' * step.depth}{relation}{_line(step.node)}{' (see above)' if step.is_again else ''}"
    if not graph.is_whole:
        yield "… and more: --depth and --most say how much is shown"


def _line(node: "GraphNode") -> str:
    about = {name: value for name, value in node.detail.items() if name in _SHOWN[node.kind] and value is not None}
    facts = "  ".join(_fact(name, value) for name, value in about.items())
    return f"{node.kind} {node.name}{f'  {facts}' if facts else ''}"


_SHOWN: dict[str, tuple[str, ...]] = defaultdict(
    tuple,
    version=("created_at", "created_by"),
    run=("actor",),
    dataset=("uri", "version", "rows"),
    image=("reference",),
    asset=("created_by",),
)


def _fact(name: str, value: Any) -> str:
    if name == "created_at":
        return time_text(value)
    if name in ("created_by", "actor"):
        return f"by {value}"
    return f"{value:,} rows" if name == "rows" else f"version {value}" if name == "version" else str(value)


def find_file(args: argparse.Namespace) -> int:
    """Print everything that has a content; exit status 1 when nothing has it.

    :raises ModelwayError: it is neither a file nor a digest
    """
    digest = _content_digest(args.content)
    found = read_lineage().graph.find_by_digest(digest)
    if args.json:
        print_json({"digest": digest, "holders": found})
        return 0 if found else 1
    if not found:
        print(f"nothing has {digest}")
        return 1
    print(digest)
    shown = table("WHAT", "NAME", "AS", "PATH", "RUN")
    for each in found:
        number = "" if each.number is None else f" v{each.number}" if each.kind != "asset" else f"@{each.number}"
        run = f"{each.dag_id}/{each.run_id}" if each.run_id else "-"
        shown.add_row(each.kind, f"{each.name}{number}", each.role or "-", each.path or "-", run)
    print_table(shown)
    return 0


def _content_digest(text: str) -> str:
    from modelway.artifacts.store import file_digest
    from modelway.lineage.graph.roots import check_digest

    path = Path(text)
    try:
        if path.is_file():
            return file_digest(path)
        return check_digest(text)
    except OSError as error:
        raise ModelwayError(f"the file cannot be read ({error.strerror})", where=text[:200]) from error
    except ModelwayError:
        raise ModelwayError(
            f"'{text[:200]}' is neither a file here nor a digest", do="Name a file, or sha256: and 64 digits"
        ) from None
