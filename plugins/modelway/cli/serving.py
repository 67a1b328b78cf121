"""``modelway serving [MODEL]``: which versions serve where, since when, by whom, and whether they answer now."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelway.cli._lineage import add_time, read_records, time_of
from modelway.cli._remote import SERVER
from modelway.cli.output.tables import print_json, print_table, table
from modelway.lineage.records.readable import time_text

if TYPE_CHECKING:
    from modelway.endpoints.base import EndpointStatus
    from modelway.lineage.records.answers import ServingRecord


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``serving`` to the command line."""
    serving = subparsers.add_parser(
        "serving", help="show which versions serve where, whether they answer, since when, by whom"
    )
    serving.add_argument("model", metavar="MODEL", nargs="?", help="default: every model")
    add_time(serving)
    serving.add_argument("--json", action="store_true", help="print JSON")
    serving.set_defaults(run=show_serving)


def show_serving(args: argparse.Namespace) -> int:
    """Print the shares of traffic.

    :raises UnknownModel: nothing was ever registered for the model
    """
    found = read_records().serving(model=args.model, at=time_of(args.at))
    here = {} if args.at or os.environ.get(SERVER) else _here()
    rows = [(each, *_place(each, here.get(each.endpoint), then=bool(args.at))) for each in found]
    if args.json:
        print_json([asdict(each) | {"url": url, "state": state} for each, url, state in rows])
        return 0
    if not found:
        print("nothing serves" if args.at is None else f"nothing served at {args.at}")
        return 0
    shown = table("ENDPOINT", "VERSION", "WEIGHT", "STATE", "ADDRESS", "SINCE", "SERVES SINCE", "BY", "RUN")
    for each, url, state in rows:
        times = (time_text(time, to="seconds") for time in (each.since, each.serving_since))
        version = f"{each.model} v{each.version}"
        place = (state, url or "-")
        shown.add_row(each.endpoint, version, f"{each.weight} %", *place, *times, each.actor, each.run_id or "-")
    print_table(shown)
    return 0


def _here() -> Mapping[str, "EndpointStatus"]:
    """Return the endpoints of this machine by name."""
    from modelway.cli._endpoints import local_endpoints
    from modelway.hooks.settings import load_settings

    return {status.name: status for status in local_endpoints(load_settings())}


def _place(each: "ServingRecord", status: "EndpointStatus | None", *, then: bool) -> tuple[str | None, str]:
    """Return the endpoint's address and the version's state: as it is on this machine, else as recorded."""
    if status is not None:
        same = (one for one in status.predictors if one.version == each.version)
        ready = any(one.ready for one in same if (one.model or status.model) == each.model)
        if not status.stopped:
            return status.url, "answers" if ready and status.gateway_ready else "does not answer"
    if each.stopped_at is not None:
        return each.url, f"stopped {time_text(each.stopped_at, to='seconds')}"
    if status is not None:
        return status.url, "stopped"
    return each.url, "served" if then else "not on this machine"
