"""The commands by which a running HAProxy is changed, and what it answers."""

import csv
from collections.abc import Mapping, Sequence
from operator import itemgetter

from modelway.endpoints.gateway.agent import NEW_MAP, is_refused
from modelway.errors import EndpointNotReady

#: a command, and words of which its answer must have one unless it is empty (None: any answer will do)
Command = tuple[str, Sequence[str] | None]
#: (backend, server) to what is read of its row of ``show stat``
Stats = Mapping[tuple[str, str], Mapping[str, str]]

_ANSWERS = tuple(f"hrsp_{kind}" for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
_COLUMNS = ("status", "weight", "addr", "scur", "stot", "srv_abrt", *_ANSWERS)
#: of an address that is set again
_SAME = ("changed", "no need")


def read_stats(text: str) -> Stats:
    """Return the counters of all backends and servers, out of the answer to ``show stat``."""
    head, *lines = text.removeprefix("# ").splitlines()
    names = head.split(",")
    # of ninety columns, in hundreds of rows, at each change of the weights
    read = itemgetter(*(names.index(name) for name in _COLUMNS))
    rows = (next(csv.reader([line])) if '"' in line else line.split(",") for line in lines)
    return {(row[0], row[1]): dict(zip(_COLUMNS, read(row), strict=True)) for row in rows}


def read_map(text: str) -> Mapping[str, str]:
    """Return the entries of a map, out of the answer to ``show map``: each line has an address, a key and a value."""
    lines = (line.split(maxsplit=2) for line in text.splitlines())
    return {parts[1]: parts[2] for parts in lines if len(parts) == 3}


def is_in_use(row: Mapping[str, str]) -> bool:
    """Return whether a server gets requests when its check has passed: nobody took it out."""
    return not row["status"].startswith(("MAINT", "DRAIN", "NOLB")) and row["weight"] == "1"


def address_commands(stats: Stats, wanted: Mapping[tuple[str, str], str | None]) -> list[Command]:
    """Return what brings every server to its address, or out of use; only what differs is changed."""
    commands: list[Command] = []
    for (backend, name), address in wanted.items():
        if (row := stats.get((backend, name))) is None:
            # A gateway of an earlier form lacks the backend, and uses it for nothing.
            continue
        # one that follows another's checks follows its state, too
        follows = not backend.startswith("slot")
        if address is None:
            if not follows and not row["status"].startswith("MAINT"):
                commands.append((f"set server {backend}/{name} state maint", ()))
            continue
        if row["addr"] != address:
            host, _, port = address.rpartition(":")
            commands.append((f"set server {backend}/{name} addr {host} port {port}", _SAME))
        if not follows and row["status"].startswith(("MAINT", "DRAIN")):
            commands.append((f"set server {backend}/{name} state ready", ()))
        if row["weight"] != "1":
            commands.append((f"set server {backend}/{name} weight 1", ()))
    return commands


def plan_commands(entries: Mapping[str, str]) -> list[Command]:
    """Return what changes all shares, and which versions there are, at once: when the new map is committed."""
    return [
        ("prepare map plan.map", ("New version created",)),
        *((f"add map {NEW_MAP} plan.map {key} {value}", ()) for key, value in entries.items()),
        (f"commit map {NEW_MAP} plan.map", ()),
    ]


def refuse_refused(commands: Sequence[Command], answers: Sequence[str]) -> None:
    """Refuse a change of which HAProxy refused a command.

    :raises EndpointNotReady: with the command and its answer
    """
    for (text, accepted), answer in zip(commands, answers, strict=False):
        if is_refused(answer, accepted):
            raise EndpointNotReady(f"the gateway refused '{text}': {answer}", do="Apply the endpoint again")
