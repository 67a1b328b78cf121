"""``modelway endpoint``: what serves on each target, how it is started and stopped, and the shares of predictors."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from modelway.cli import _endpoint_split as split
from modelway.cli._endpoints import TARGET, known_targets, open_known, start_endpoint, stop_endpoint
from modelway.cli.output.tables import print_json, print_table, table
from modelway.endpoints.base import EndpointStatus, endpoint_member
from modelway.endpoints.shares import percentages
from modelway.errors import InvalidSpec, ModelwayError, UnknownEndpoint
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.settings import Settings

NONE = "there is no endpoint here"
_TARGET_HELP = "where endpoints serve, such as docker; default: {default}"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``endpoint`` to the command line."""
    endpoint = subparsers.add_parser("endpoint", help="list, start and stop endpoints, show and set their weights")
    commands = endpoint.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="where each endpoint serves, and whether it answers")
    listed.add_argument("--json", action="store_true", help="print JSON")
    default = "this machine, and all that rollouts name"
    listed.add_argument("--target", metavar="TARGET", help=_TARGET_HELP.format(default=default))
    listed.set_defaults(run=list_endpoints)
    for name, text, change in (
        ("start", "bring back what was stopped, or what ended with the machine", _start),
        ("stop", "stop all that serves an endpoint; it is remembered", _stop),
        ("restart", "stop an endpoint and start it again", _restart),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", metavar="NAME", nargs="*", help="an endpoint, which has the name of its model")
        command.add_argument(
            "--all", action="store_true", help="every endpoint of the target; default: of this machine"
        )
        default = "that of the endpoint's last rollout, else this machine"
        command.add_argument("--target", metavar="TARGET", help=_TARGET_HELP.format(default=default))
        command.set_defaults(run=_command(change))
    up = commands.add_parser(
        "up", help="start all endpoints that nobody stopped, such as after a restart of the machine"
    )
    up.add_argument("--target", metavar="TARGET", default=TARGET, help=_TARGET_HELP.format(default="this machine"))
    up.set_defaults(run=bring_up)
    split.add_commands(commands)


def list_endpoints(args: argparse.Namespace) -> int:
    """Print the endpoints as they are; a target that cannot be reached is named with the reason."""
    from modelway.hooks.settings import load_settings

    settings = load_settings()
    found: list[tuple[str, EndpointStatus]] = []
    unreachable: list[str] = []
    for target in [args.target] if args.target else sorted({TARGET, *known_targets().values()}):
        try:
            found += [(target, status) for status in _endpoints(settings, target)]
        except ModelwayError as error:
            if args.target:
                raise
            unreachable.append(f"{target}: cannot be reached: {error.what}")
    if args.json:
        print_json([asdict(status) | {"state": state_of(status), "target": target} for target, status in found])
    elif found:
        _print(found)
    elif not unreachable:
        print(NONE)
    for line in unreachable:
        print(line, file=sys.stderr)
    return int(bool(unreachable))


def _endpoints(settings: Settings, target: str) -> list[EndpointStatus]:
    found = [open_known(settings, name, target=target).status(name) for name in _names(settings, target)]
    return [status for status in found if status is not None]


def _names(settings: Settings, target: str) -> list[str]:
    """Return the endpoints of a target; those of a platform with many places are where rollouts say."""
    if endpoint_member(target).placed:
        return sorted(name for name, known in known_targets().items() if known == target)
    return list(open_endpoint(target, settings).names())


def _print(found: Sequence[tuple[str, EndpointStatus]]) -> None:
    shown = table("ENDPOINT", "TARGET", "ADDRESS", "STATE", "PREDICTORS", "RESTARTS")
    for target, status in found:
        shares = percentages({each.name: each.weight for each in status.predictors})
        predictors = ", ".join(f"{name} {share} %" for name, share in shares.items())
        restarts = sum(each.restarts for each in status.predictors)
        shown.add_row(status.name, target, status.url, state_of(status), predictors, str(restarts))
    print_table(shown)
    for problem in (problem for _, status in found for problem in _problems(status)):
        print(problem)


def bring_up(args: argparse.Namespace) -> int:
    """Start every endpoint that nobody stopped; one that cannot start holds up no other."""
    from modelway.hooks.settings import load_settings

    settings, failed = load_settings(), False
    found = _endpoints(settings, args.target)
    for status in found:
        if status.stopped:
            print(f"endpoint {status.name} stays stopped; `modelway endpoint start {status.name}` brings it back")
            continue
        try:
            print(_start(settings, status.name, args.target))
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
    return "answers in part" if status.ready_in_part else "does not answer"


def _problems(status: EndpointStatus) -> list[str]:
    found = [f"{status.name}: {status.problem}"] if status.problem else []
    found += [f"{status.name}: changed by hand: {difference}" for difference in status.drift]
    return found + [f"{status.name} {each.name}: {each.problem}" for each in status.predictors if each.problem]


def _command(change: Callable[[Settings, str, str], str]) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from modelway.hooks.settings import load_settings

        settings = load_settings()
        chosen = _chosen(args, settings)
        for name, target in chosen:
            print(change(settings, name, target))
        if not chosen:
            print(NONE)
        return 0

    return run


def _chosen(args: argparse.Namespace, settings: Settings) -> list[tuple[str, str]]:
    """Return the endpoints that were named, each with its target.

    :raises InvalidSpec: neither a name nor --all was passed, or both
    :raises UnknownEndpoint: there is no endpoint of a name
    """
    if args.all == bool(args.names):
        known = _names(settings, args.target or TARGET)
        raise InvalidSpec("name the endpoints, or give --all", known=known)
    if args.all:
        target = args.target or TARGET
        return [(name, target) for name in _names(settings, target)]
    targets = {} if args.target else known_targets()
    chosen = [(name, args.target or targets.get(name, TARGET)) for name in args.names]
    names = {target: _names(settings, target) for target in {target for _, target in chosen}}
    for name, target in chosen:
        if name not in names[target]:
            where = str(settings.endpoint_root) if target == TARGET else f"target {target}"
            raise UnknownEndpoint(f"there is no endpoint '{name}'", where=where, known=names[target], given=name)
    return chosen


def _start(settings: Settings, name: str, target: str) -> str:
    from modelway.cli.asset import actor

    status = start_endpoint(settings, name, actor=actor(), target=target)
    return f"endpoint {name} serves at {status.url}"


def _stop(settings: Settings, name: str, target: str) -> str:
    from modelway.cli.asset import actor

    stop_endpoint(settings, name, actor=actor(), target=target)
    return f"endpoint {name} is stopped; `modelway endpoint start {name}` brings it back"


def _restart(settings: Settings, name: str, target: str) -> str:
    _stop(settings, name, target)
    return _start(settings, name, target)
