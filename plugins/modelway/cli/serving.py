"""``modelway serving [MODEL]``: which versions serve where, since when, by whom."""

import argparse

from modelway.cli._asked import add_time, open_asked, time_of
from modelway.cli._tables import print_json, print_table, table


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``serving`` to the command line."""
    serving = subparsers.add_parser("serving", help="tell which versions serve where, since when, by whom")
    serving.add_argument("model", metavar="MODEL", nargs="?", help="default: every model")
    add_time(serving)
    serving.add_argument("--json", action="store_true", help="print JSON")
    serving.set_defaults(run=show_serving)


def show_serving(args: argparse.Namespace) -> int:
    """Print the shares of traffic.

    :raises UnknownModel: nothing was ever registered for the model
    """
    found = open_asked().serving(model=args.model, at=time_of(args.at))
    if args.json:
        print_json(found)
        return 0
    if not found:
        print("nothing serves" if args.at is None else f"nothing served at {args.at}")
        return 0
    shown = table("ENDPOINT", "VERSION", "WEIGHT", "SINCE", "SERVES SINCE", "BY", "RUN")
    for each in found:
        times = (f"{time:%Y-%m-%d %H:%M:%S}Z" for time in (each.since, each.serving_since))
        version = f"{each.model} v{each.version}"
        shown.add_row(each.endpoint, version, f"{each.weight} %", *times, each.actor, each.run_id or "-")
    print_table(shown)
    return 0
