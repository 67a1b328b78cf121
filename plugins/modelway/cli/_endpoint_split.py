"""``modelway endpoint show|weights|history``: the predictors of one endpoint and their shares, now and before."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelway.cli._endpoints import TARGET, known_targets, open_known
from modelway.cli._lineage import lineage_if_any, read_lineage
from modelway.cli.output.tables import print_json, print_table, table
from modelway.endpoints.base import Endpoint, EndpointStatus, PredictorMetrics
from modelway.endpoints.shares import percentages
from modelway.errors import EndpointNotReady, InvalidSpec, ModelwayError, UnknownEndpoint, UnknownModel
from modelway.lineage.records.readable import time_text
from modelway.lineage.records.rollout import has_moved, is_returning

if TYPE_CHECKING:
    from rich.table import Table

    from modelway.lineage.records.version import RolloutRecord


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands about one endpoint."""
    for name, text, run in (
        ("show", "the predictors of an endpoint, what they answered, what was changed by hand", show_endpoint),
        ("weights", "show the weights of an endpoint, or set them in one step", change_weights),
        ("history", "every change of an endpoint's weights, newest first", show_history),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("name", metavar="NAME", help="an endpoint, which has the name of its model")
        if name == "weights":
            text = "such as v3=50 v4=50; predictors that are left out get nothing"
            command.add_argument("weights", metavar="PREDICTOR=WEIGHT", nargs="*", help=text)
        else:
            command.add_argument("--json", action="store_true", help="print JSON")
        if name == "history":
            command.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
        command.set_defaults(run=run)
    text = "close what rollouts have still to do at an endpoint that is gone for good, so that another one can begin"
    abandon = commands.add_parser("abandon", help=text)
    abandon.add_argument("name", metavar="NAME", help="an endpoint that cannot be read any more")
    abandon.set_defaults(run=abandon_endpoint)


def show_endpoint(args: argparse.Namespace) -> int:
    """Print one endpoint as it is.

    :raises UnknownEndpoint: there is none of that name
    """
    port, status, target = _endpoint(args.name)
    try:
        metrics = port.metrics(args.name) if status.gateway_ready else {}
    except EndpointNotReady:
        metrics = {}
    if args.json:
        shown = {name: asdict(one) | {"errors": one.errors} for name, one in metrics.items()}
        print_json(asdict(status) | {"target": target, "metrics": shown})
        return 0
    sticky = f"cookie {status.sticky.cookie}" if status.sticky.cookie else f"header {status.sticky.header}"
    print(f"{status.name}  {status.url}  target {target}, stable {status.stable or '-'}, users by {sticky}")
    print_table(_predictors(status, metrics))
    for each in status.predictors:
        if each.problem:
            print(f"{each.name}: {each.problem}")
    for difference in status.drift:
        print(f"changed by hand: {difference}")
    return 0


def change_weights(args: argparse.Namespace) -> int:
    """Print the weights, or set and record those that are given.

    :raises InvalidSpec: for a weight that is none
    :raises ModelwayError: while a rollout is running
    """
    from modelway.cli.asset import actor
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.runs.traffic import record_traffic

    port, status, _ = _endpoint(args.name)
    if args.weights:
        weights = _parsed(args.weights)
        if (running := _running(args.name)) is not None:
            raise ModelwayError(
                f"version {running.version} is being rolled out (run {running.run_id})",
                where=f"endpoint {args.name}",
                do="Wait until it is over, or mark its task failed, which returns the traffic",
            )
        status = port.set_weights(args.name, weights)
        try:
            record_traffic(lineage_from_environment(), status, actor=actor(), run_id=None)
        except UnknownModel:
            print("modelway: its model was never registered here: this was not recorded", file=sys.stderr)
    for each, share in zip(status.predictors, _shares(status).values(), strict=True):
        print(f"{each.name}={each.weight} ({share} %)")
    return 0


def abandon_endpoint(args: argparse.Namespace) -> int:
    """Close the rollouts of an endpoint that cannot be finished, and say which.

    :raises ModelwayError: the endpoint can be read, so that they can be finished
    """
    from modelway.cli.asset import actor
    from modelway.following.rollouts import abandon_rollouts
    from modelway.hooks.lineage import lineage_from_environment
    from modelway.hooks.settings import load_settings

    read_lineage()
    closed = abandon_rollouts(lineage_from_environment(), load_settings(), endpoint=args.name, actor=actor())
    for each in closed:
        print(f"the rollout of version {each.version} of {each.model} (run {each.run_id}) has nothing left to do")
    if not closed:
        print(f"no rollout of an endpoint '{args.name}' has anything left to do")
    return 0


def show_history(args: argparse.Namespace) -> int:
    """Print the changes of the weights, as the lineage has them."""
    changes = read_lineage().weight_history(args.name)[: args.limit]
    if args.json:
        print_json([asdict(change) for change in changes])
        return 0
    if not changes:
        print(f"nothing is recorded of an endpoint '{args.name}'")
        return 0
    shown = table("AT", "VERSION", "WEIGHT", "BY", "RUN")
    for change in changes:
        at = time_text(change.at, to="seconds")
        shown.add_row(at, f"{change.model} v{change.version}", f"{change.weight} %", change.actor, change.run_id or "-")
    print_table(shown)
    return 0


def _endpoint(name: str) -> tuple[Endpoint, EndpointStatus, str]:
    """Return the port of the target that an endpoint serves on, its status, and the target.

    :raises UnknownEndpoint: there is none of that name
    """
    from modelway.hooks.settings import load_settings

    target = known_targets().get(name, TARGET)
    port = open_known(load_settings(), name, target=target)
    status = port.status(name)
    if status is None:
        raise UnknownEndpoint(f"there is no endpoint '{name}'", where=target, known=port.names(), given=name)
    return port, status, target


def _running(name: str) -> "RolloutRecord | None":
    """Return the rollout whose traffic is moving, or not back yet; one that has moved nothing is in nobody's way."""
    lineage = lineage_if_any()
    found = lineage.rollouts(name) if lineage is not None else []
    moves = (each for each in found if is_returning(each) or (each.state == "running" and has_moved(each)))
    return next(moves, None)


def _parsed(texts: Sequence[str]) -> dict[str, int]:
    weights: dict[str, int] = {}
    for text in texts:
        name, _, weight = text.partition("=")
        if not name or not weight.isdecimal() or name in weights:
            raise InvalidSpec(f"'{text}' is not a predictor and its weight", do="Write each once, such as v3=50 v4=50")
        weights[name] = int(weight)
    return weights


def _shares(status: EndpointStatus) -> Mapping[str, int]:
    return percentages({each.name: each.weight for each in status.predictors})


def _predictors(status: EndpointStatus, metrics: Mapping[str, PredictorMetrics]) -> "Table":
    shown = table("PREDICTOR", "VERSION", "WEIGHT", "READY", "REQUESTS", "ERRORS", "INVALID", "RESTARTS", "IMAGE")
    shares = _shares(status)
    for each in status.predictors:
        counts = metrics.get(each.name)
        shown.add_row(
            each.name,
            f"{each.model or status.model} v{each.version}",
            f"{shares[each.name]} %",
            f"{each.ready_replicas} of {each.replicas}",
            "-" if counts is None else f"{counts.requests:,}",
            "-" if counts is None else f"{counts.errors:,}",
            "-" if counts is None else f"{counts.invalid:,}",
            str(each.restarts),
            each.image,
        )
    return shown
