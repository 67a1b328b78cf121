"""``modelway sweep MODEL VERSION``: the candidates that a run trained, of which the best became the version."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelway.cli._lineage import add_version, read_records, read_version
from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError
from modelway.lineage.records.readable import number_text
from modelway.lineage.records.sweep import ranked, searched_params

if TYPE_CHECKING:
    from rich.table import Table

    from modelway.lineage.records.version import CandidateRecord


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``sweep`` to the command line."""
    sweep = subparsers.add_parser(
        "sweep",
        help="show the candidates of which a version is the best",
        description="Print what a sweep trained: each candidate with its parameters, what became of it, the metrics of "
        "its best checkpoint and its cost; the selected one first.",
    )
    add_version(sweep)
    sweep.add_argument("--json", action="store_true", help="print JSON")
    sweep.set_defaults(run=show_sweep)


def show_sweep(args: argparse.Namespace) -> int:
    """Print the candidates.

    :raises UnknownModel: nothing was ever registered for the model
    :raises UnknownVersion: the model has no such version or alias
    :raises ModelwayError: the version is not of a sweep
    """
    model, wanted = read_version(args.version)
    lineage = read_records()
    number = lineage.find(model, wanted)
    candidates = lineage.version(model, number).run.candidates
    if not candidates:
        raise ModelwayError(
            f"{model} v{number} is not of a sweep: its run trained one candidate",
            do="Add the section search to the model's spec, see docs/sweeps.md",
        )
    if args.json:
        print_json({"model": model, "version": number, "candidates": candidates})
    else:
        print_table(candidates_table(candidates))
    return 0


def candidates_table(candidates: "Sequence[CandidateRecord]") -> "Table":
    """Return the candidates as a table, the selected one first."""
    params = searched_params(candidates)
    metrics = list(dict.fromkeys(name for each in candidates for name in each.metrics))
    found = table("CANDIDATE", "STATE", "STAGE", *params, *metrics, "CPU SECONDS", "")
    for each in ranked(candidates):
        values = [_text(each.params.get(name)) for name in params]
        numbers = [number_text(each.metrics.get(name)) for name in metrics]
        found.add_row(each.name, each.state, each.stage or "-", *values, *numbers, _seconds(each), each.reason)
    return found


def _text(value: object) -> str:
    if isinstance(value, float):
        return number_text(value)
    return "-" if value is None else str(value)


def _seconds(candidate: "CandidateRecord") -> str:
    return "-" if candidate.cpu_seconds is None else f"{candidate.cpu_seconds:.1f}"
