"""``modelway endpoint``: what serves on this machine, its processes, and the shares of its predictors."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict

from modelway.cli import _endpoint_split as split
from modelway.cli._endpoints import local_endpoints, open_local, start_endpoint, stop_endpoint
from modelway.cli.output.tables import print_json, print_table, table
from modelway.endpoints.base import EndpointStatus
from modelway.endpoints.shares import percentages
from modelway.errors import InvalidSpec, ModelwayError, UnknownEndpoint
from modelway.hooks.settings import Settings

NONE = "there is no endpoint here"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``endpoint`` to the command line."""
    endpoint = subparsers.add_parser("endpoint", help="list, start and stop endpoints, show and set their weights")
    commands = endpoint.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="where each endpoint serves, and whether it answers")
    listed.add_argument("--json", action="store_true", help="print JSON")
    listed.set_defaults(run=list_endpoints)
    for name, text, change in (
        ("start", "bring back what was stopped, or what ended with the machine", _start),
        ("stop", "stop an endpoint's processes; it is remembered", _stop),
        ("restart", "stop an endpoint and start it again", _restart),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", metavar="NAME", nargs="*", help="an endpoint, which has the name of its model")
        command.add_argument("--all", action="store_true", help="every endpoint of this machine")
        command.set_defaults(run=_command(change))
    up = commands.add_parser(
        "up", help="start all endpoints that nobody stopped, such as after a restart of the machine"
    )
    up.set_defaults(run=bring_up)
    split.add_commands(commands)


def list_endpoints(args: argparse.Namespace) -> int:
    """Print the endpoints as they are."""
    from modelway.hooks.settings import load_settings

    found = local_endpoints(load_settings())
    if args.json:
        print_json([asdict(status) | {"state": state_of(status)} for status in found])
        return 0
    if not found:
        print(NONE)
        return 0
    shown = table("ENDPOINT", "ADDRESS", "STATE", "PREDICTORS", "RESTARTS")
    for status in found:
        shares = percentages({each.name: each.weight for each in status.predictors})
        predictors = ", ".join(f"{name} {share} %" for name, share in shares.items())
        restarts = sum(each.restarts for each in status.predictors)
        shown.add_row(status.name, status.url, state_of(status), predictors, str(restarts))
    print_table(shown)
    for problem in (problem for status in found for problem in _problems(status)):
        print(problem)
    return 0


def bring_up(args: argparse.Namespace) -> int:
    """Start every endpoint that nobody stopped; one that cannot start holds up no other."""
    from modelway.hooks.settings import load_settings

    settings, failed = load_settings(), False
    found = local_endpoints(settings)
    for status in found:
        if status.stopped:
            print(f"endpoint {status.name} stays stopped; `modelway endpoint start {status.name}` brings it back")
            continue
        try:
            print(_start(settings, status.name))
        except ModelwayError as error:
            failed = True
            print(error, file=sys.stderr)
    if not found:
        print(NONE)
    return int(failed)


def state_of(status: EndpointStatus) -> str:
    """Return the state of an endpoint as a short text."""
    if status.stopped:
        return "stopped"
    if status.ready:
        return "answers"
    partly = status.gateway_ready and any(each.ready for each in status.predictors if each.weight)
    return "answers in part" if partly else "does not answer"


def _problems(status: EndpointStatus) -> list[str]:
    found = [f"{status.name}: {status.problem}"] if status.problem else []
    found += [f"{status.name}: changed by hand: {difference}" for difference in status.drift]
    return found + [f"{status.name} {each.name}: {each.problem}" for each in status.predictors if each.problem]


def _command(change: Callable[[Settings, str], str]) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from modelway.hooks.settings import load_settings

        settings = load_settings()
        names = _names(args, settings)
        for name in names:
            print(change(settings, name))
        if not names:
            print(NONE)
        return 0

    return run


def _names(args: argparse.Namespace, settings: Settings) -> tuple[str, ...]:
    """Return the endpoints that were named.

    :raises InvalidSpec: neither a name nor --all was passed, or both
    :raises UnknownEndpoint: there is no endpoint of a name
    """
    known = open_local(settings).names()
    if args.all == bool(args.names):
        raise InvalidSpec("name the endpoints, or give --all", known=known)
    for name in args.names:
        if name not in known:
            where = str(settings.endpoint_root)
            raise UnknownEndpoint(f"there is no endpoint '{name}'", where=where, known=known, given=name)
    return known if args.all else tuple(args.names)


def _start(settings: Settings, name: str) -> str:
    from modelway.cli.asset import actor

    status = start_endpoint(settings, name, actor=actor())
    return f"endpoint {name} serves at {status.url}"


def _stop(settings: Settings, name: str) -> str:
    from modelway.cli.asset import actor

    stop_endpoint(settings, name, actor=actor())
    return f"endpoint {name} is stopped; `modelway endpoint start {name}` brings it back"


def _restart(settings: Settings, name: str) -> str:
    _stop(settings, name)
    return _start(settings, name)
