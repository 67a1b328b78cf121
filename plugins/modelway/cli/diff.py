"""``modelway diff MODEL A B``: how two versions differ."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._lineage import read_records, read_versions
from modelway.cli.lint import printable
from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError
from modelway.lineage.records.readable import number_text

if TYPE_CHECKING:
    from modelway.lineage.records.difference import Change, CodeDifference, DiffRecord

_SIGN = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}
#: of a long list of packages, statistics, tensors or files
_MOST = 40


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``diff`` to the command line."""
    diff = subparsers.add_parser(
        "diff",
        help="show how two versions differ: parameters, code, data, environment, metrics, files, architecture",
        description="modelway diff MODEL A B, or of two models: modelway diff MODEL@A OTHER@B. A version is a number, "
        "v3, an alias such as champion, or latest.",
    )
    diff.add_argument("versions", metavar="MODEL A B | MODEL@A OTHER@B", nargs="+")
    diff.add_argument("--json", action="store_true", help="print JSON")
    diff.set_defaults(run=show_diff)


def show_diff(args: argparse.Namespace) -> int:
    """Print the differences.

    :raises UnknownModel: nothing was ever registered for a model
    :raises UnknownVersion: a model has no such version or alias
    """
    from modelway.lineage.compare.difference import difference

    named = read_versions(args.versions)
    if len(named) != 2:
        raise ModelwayError("two versions are compared", do="Write MODEL A B, or MODEL@A OTHER@B")
    lineage = read_records()
    a, b = (lineage.version(model, lineage.find(model, wanted)) for model, wanted in named)
    found = difference(a, b)
    found = replace(found, code=_counted(found.code))
    if args.json:
        print_json(found)
        return 0
    print(printable(f"{found.a.model} v{found.a.number} → {found.b.model} v{found.b.number}"))
    for line in lines_of(found):
        print(printable(line))
    print_metrics(found, names=(f"v{found.a.number}", f"v{found.b.number}"))
    return 0


def _counted(code: "CodeDifference") -> "CodeDifference":
    """Add how many commits are between, when the repository here has them."""
    if code.commit_range is None:
        return code
    from modelway.artifacts.checkout import find_checkout

    here = find_checkout(Path.cwd())
    newest = code.commit_range.rpartition("..")[2]
    command = ("rev-list", "--count", "--end-of-options", code.commit_range)
    count = here.run(*command, commit=newest) if here else None
    return code if count is None else replace(code, count=int(count))


def lines_of(found: "DiffRecord") -> Iterator[str]:
    """Yield all differences except those of the metrics, a line each, by sections."""
    if found.is_same_model:
        yield "the frozen models are the same, byte for byte"
    yield from _section("Parameters", (_change(each, of=f"{each.stage}.") for each in found.params))
    yield from _section("Code", _code(found.code))
    yield from _section("Data", _data(found))
    yield from _section("Environment", _environment(found))
    yield from _section("Run", (f"~ {name}: {_value(a)} → {_value(b)}" for name, (a, b) in found.run.items()))
    yield from _section("Files", _files(found))
    yield from _section("Architecture", _architecture(found))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    listed = list(lines)
    yield ""
    yield f"{title}: no difference" if not listed else title
    yield from (f"  {line}" for line in listed[:_MOST])
    if len(listed) > _MOST:
        yield f"  … and {len(listed) - _MOST} more; --json has all"


def _change(change: "Change", *, of: str = "") -> str:
    if change.kind == "changed":
        return f"~ {of}{change.name}: {_value(change.a)} → {_value(change.b)}"
    value = change.b if change.kind == "added" else change.a
    return f"{_SIGN[change.kind]} {of}{change.name}: {_value(value)}"


def _value(value: Any) -> str:
    from modelway.lineage.records.values import plain

    data = plain(value)
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _code(code: "CodeDifference") -> Iterator[str]:
    if code.is_same is None:
        yield "not known: a digest was not recorded"
    elif not code.is_same:
        yield f"~ {code.a} → {code.b}"
    if code.commit_range:
        count = "" if code.count is None else f", {code.count} commit{'' if code.count == 1 else 's'}"
        yield f"~ commits {code.commit_range}{count}: {code.command}"
        if code.repository and code.count is None:
            yield f"  in a clone of {code.repository}"
    elif code.commits[0] != code.commits[1]:
        yield f"~ commit {code.commits[0] or 'not known'} → {code.commits[1] or 'not known'}"
    for side, dirty in zip("ab", code.dirty, strict=True):
        if dirty and not code.is_same:
            yield f"! {side} ran with changes that no commit holds"


def _data(found: "DiffRecord") -> Iterator[str]:
    for data in found.data:
        yield f"{_SIGN[data.kind]} {data.name} of {data.stage}"
        yield from (f"    {_change(each)}" for each in data.changes)
        yield from (f"    column {_change(each)}" for each in data.schema)
        yield from (f"    {_change(each)}" for each in data.statistics)


def _environment(found: "DiffRecord") -> Iterator[str]:
    for each in found.environment:
        yield f"of {each.stage}"
        yield from (f"    {_change(change)}" for change in (*each.changes, *each.packages))


def _files(found: "DiffRecord") -> Iterator[str]:
    for each in found.files:
        yield f"{_SIGN[each.kind]} {each.path}{f' → {each.new_path}' if each.new_path else ''}"


def _architecture(found: "DiffRecord") -> Iterator[str]:
    about = found.architecture
    a, b = about.parameters
    if not about.is_known:
        yield "not known: it was not recorded for both"
    elif a != b:
        yield f"~ parameters: {a:,} → {b:,}"
    yield from (f"layer {_change(each)}" for each in about.layers)
    yield from (f"tensor {_change(each)}" for each in about.tensors)


def print_metrics(found: "DiffRecord", *, names: tuple[str, str]) -> None:
    """Print the metrics of both sides under the sides' names."""
    if not found.metrics:
        return
    shown = table("METRIC", *names, "DIFFERENCE", "SIGNIFICANT", "")
    for each in found.metrics:
        numbers = [number_text(value, digits=6) for value in (each.a, each.b)]
        step = "-" if each.difference is None else f"{each.difference:+.6g}"
        verdict = {None: "not known", True: "yes", False: "no"}[each.is_significant]
        why = each.why.removeprefix("not known: ")
        p_value = "" if each.p_value is None else f"p = {each.p_value:.3g}, "
        shown.add_row(each.name, *numbers, step, verdict, f"{p_value}{why}")
    print()
    print_table(shown)
