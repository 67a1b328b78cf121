"""``modelway exports``: what other systems received of the lineage and what is pending, which it can send now."""

import argparse
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modelway.cli._lineage import lineage_if_any
from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError, UnknownModel
from modelway.lineage.records.readable import time_text

if TYPE_CHECKING:
    from modelway.lineage.exporters.base import Destination
    from modelway.lineage.store import Lineage

#: what sending everything may take
SECONDS = 600.0
_DO_CONFIGURE = "Set MODELWAY_MLFLOW_URL or MODELWAY_OPENLINEAGE_URL, or AIRFLOW_CONN_MODELWAY_MLFLOW and its like"


@dataclass(frozen=True, kw_only=True)
class Line:
    """The state of one exporter as it is printed."""

    exporter: str
    url: str | None
    """Where it sends; None where this environment does not say."""
    waiting: int
    sent: int
    refused: int
    oldest: datetime | None
    """When the oldest of those that wait happened."""
    error: str


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    exports = subparsers.add_parser("exports", help="show what MLflow and OpenLineage have of the lineage, and send it")
    exports.add_argument("--flush", action="store_true", help="send what waits, now")
    exports.add_argument("--again", action="store_true", help="queue what was rejected again")
    exports.add_argument("--all", metavar="MODEL", help="send all versions of a model that were registered before")
    exports.add_argument("--json", action="store_true", help="print JSON")
    exports.set_defaults(run=show_exports)


def show_exports(args: argparse.Namespace) -> int:
    """Print how far each exporter is; 1 when ``--flush`` could not send everything.

    :raises UnknownModel: nothing was ever registered for the model of ``--all``
    :raises ModelwayError: no exporter is configured
    """
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.hooks.settings import load_exporters

    destinations = load_exporters()
    if (args.flush or args.all) and not destinations:
        raise ModelwayError("no exporter is configured here", do=_DO_CONFIGURE)
    lineage = lineage_if_any()
    if lineage is not None and (args.flush or args.all or args.again):
        lineage = lineage_from_environment()
    failed = _change(args, lineage, destinations)
    lines = _lines(lineage, destinations)
    if args.json:
        print_json(lines)
    else:
        _print_lines(lines)
    return 1 if failed else 0


def _change(args: argparse.Namespace, lineage: "Lineage | None", destinations: "tuple[Destination, ...]") -> bool:
    """Do what was requested and return whether something could not be sent."""
    if lineage is None:
        if args.all:
            raise UnknownModel(f"there is no version of '{args.all}': nothing was registered yet")
        return False
    if args.again:
        lineage.exports.retry_refused()
    if args.all:
        lineage.exports.add_model(args.all, exporters=[each.exporter for each in destinations])
    if not args.flush:
        return False
    deliveries = lineage.exports.flush(destinations, seconds=SECONDS)
    return any(each.error or each.refused for each in deliveries)


def _lines(lineage: "Lineage | None", destinations: "tuple[Destination, ...]") -> list[Line]:
    from modelway.lineage.records.exports import ExporterState

    found = {state.exporter: state for state in (lineage.exports.states() if lineage else ())}
    urls = {each.exporter: each.url for each in destinations}
    lines = []
    for name in sorted(found.keys() | urls.keys()):
        state = found.get(name) or ExporterState(exporter=name)
        facts = {key: getattr(state, key) for key in ("waiting", "sent", "refused", "oldest", "error")}
        lines.append(Line(exporter=name, url=urls.get(name), **facts))
    return lines


def _print_lines(lines: list[Line]) -> None:
    if not lines:
        print(f"No exporter is configured. {_DO_CONFIGURE}.")
        return
    found = table("EXPORTER", "WAITING", "SENT", "REFUSED", "OLDEST", "WHERE", "LAST ERROR")
    for line in lines:
        oldest = time_text(line.oldest)
        counts = (str(line.waiting), str(line.sent), str(line.refused))
        found.add_row(line.exporter, *counts, oldest, line.url or "not configured here", line.error or "-")
    print_table(found)
