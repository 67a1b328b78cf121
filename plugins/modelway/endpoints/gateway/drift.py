"""What of a running gateway differs from its routes, since somebody changed it by hand."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from string import ascii_lowercase

from modelway.endpoints.gateway.commands import Stats, is_in_use
from modelway.endpoints.gateway.haproxy import addresses, plan
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.shares import BUCKETS


def find_drift(stats: Stats, entries: Mapping[str, str], routes: Routes) -> tuple[str, ...]:
    """Return a phrase for each difference.

    :param entries: of the gateway's map, as it is
    """
    return (*find_share_drift(entries, routes), *_of_servers(stats, routes))


def find_share_drift(entries: Mapping[str, str], routes: Routes) -> Iterator[str]:
    """Yield a phrase for each difference between a gateway's map and its routes."""
    wanted = plan(routes)
    if entries.get("plan") != wanted["plan"]:
        yield (
            f"the gateway's shares are {_split(entries.get('plan', ''), routes)}, "
            f"and those that were applied {_split(wanted['plan'], routes)}"
        )
    if {**entries, "plan": ""} != {**wanted, "plan": ""}:
        yield "the gateway has other URLs of versions than those that were applied"


def _split(text: str, routes: Routes) -> str:
    """Return the shares of a plan, ``<upper bound>:<slot>:…``, in per cent by predictor."""
    names = {str(route.slot): route.name for route in routes.all}
    parts = text.split(":")
    try:
        bounds = [0, *map(int, parts[::2])]
    except ValueError:
        return "none"
    slots = (names.get(slot, f"slot {slot}") for slot in parts[1::2])
    shares = zip(slots, pairwise(bounds), strict=False)
    return ", ".join(f"{name} {(end - begin) * 100 / BUCKETS:g} %" for name, (begin, end) in shares)


def _of_servers(stats: Stats, routes: Routes) -> Iterator[str]:
    names = {route.slot: route.name for route in routes.all}
    for (backend, server), address in addresses(routes).items():
        if (row := stats.get((backend, server))) is None:
            # A gateway of an earlier form, until the next deployment replaces it.
            continue
        name = names.get(int(backend.lstrip(ascii_lowercase)), "no predictor")
        what = f"server {backend}/{server} of the gateway, of {name},"
        if address is not None and row["addr"] != address:
            yield f"{what} has the address {row['addr']} and not {address}"
        elif not backend.startswith("slot"):
            continue
        elif address is not None and not is_in_use(row):
            yield f"{what} was changed ({row['status'].lower()}, weight {row['weight']})"
        elif address is None and not row["status"].startswith("MAINT"):
            yield f"{what} was put into use"
