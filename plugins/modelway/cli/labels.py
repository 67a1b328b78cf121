"""``modelway labels``: what requests should have been answered, which becomes known later."""

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

from modelway.cli.output.tables import print_json
from modelway.errors import ModelwayError

_DO = "Write ID,LABEL in each line: the id of a request, and the number of its class (or the value), such as r-17,3"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``labels``."""
    labels = subparsers.add_parser("labels", help="add true labels of requests, which the monitor compares")
    actions = labels.add_subparsers(title="actions", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        help="add labels of a model's requests",
        description="Add true labels of a model's requests, by the id that each request had. A label that is there "
        "gets its new value; one whose request is not known waits for it.",
    )
    add.add_argument("model", metavar="MODEL")
    add.add_argument("labels", metavar="ID=LABEL", nargs="*", help="a request's id and the number of its class")
    add.add_argument("--file", type=Path, help="a CSV file with a line ID,LABEL for each request, and perhaps a header")
    add.add_argument("--json", action="store_true", help="print JSON")
    add.set_defaults(run=add_labels)


def add_labels(args: argparse.Namespace) -> int:
    """Add labels, and print what became of them.

    :raises ModelwayError: a label is no number, or there are none
    """
    from modelway.cli.asset import actor
    from modelway.hooks.lineage import lineage_from_environment

    found: dict[str, float] = {}
    for where, name, text in _given(args):
        found[name] = _number(text, where=where)
    if not found:
        raise ModelwayError("there are no labels", do="Give ID=LABEL, or --file with lines ID,LABEL")
    added = lineage_from_environment().monitoring.add_labels(args.model, found, actor=actor())
    if args.json:
        print_json(vars(added))
        return 0
    print(f"{added.new} new, {added.changed} changed, {added.same} as before")
    if added.unknown:
        print(f"{added.unknown} of requests that are not known, or not yet: the monitor reads them when it checks")
    return 0


def _given(args: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Yield where each label stands, the request's id, and the label."""
    for text in args.labels:
        name, sign, label = text.rpartition("=")
        if not sign or not name:
            raise ModelwayError(f"'{text}' is no label", do="Write ID=LABEL, such as r-17=3")
        yield text, name, label
    if args.file is not None:
        yield from _lines(args.file)


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or (number == 1 and [each.strip().lower() for each in row] == ["id", "label"]):
                    continue
                if len(row) != 2 or not row[0].strip():
                    raise ModelwayError(f"the line has {len(row)} fields", where=f"{path}:{number}", do=_DO)
                yield f"{path}:{number}", row[0].strip(), row[1]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelwayError(f"the labels cannot be read ({error})", where=str(path)) from error


def _number(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ModelwayError(f"'{text.strip()}' is no number", where=where, do=_DO)
    return value
