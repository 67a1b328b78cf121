"""The commands to a running gateway over its runtime socket."""

import csv
import hashlib
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modelway.errors import EndpointNotReady, NotWritable

#: a unix socket's path has at most 107 bytes, and HAProxy binds a longer temporary name first
_LONGEST_SOCKET_PATH = 85

#: (backend, server) to the row of ``show stat``
Stats = Mapping[tuple[str, str], Mapping[str, str]]


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

    def send(self, command: str) -> str:
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
        rows = csv.DictReader(self.send("show stat").removeprefix("# ").splitlines())
        return {(row["pxname"], row["svname"]): row for row in rows}

    def set_addresses(self, wanted: Mapping[tuple[str, str], str | None]) -> None:
        """Bring every server to its address, or out of use; only what differs is changed."""
        stats = self.stats()
        for (backend, name), address in wanted.items():
            row = stats[backend, name]
            # one that follows another's checks follows its state, too
            follows = backend.startswith("pinned")
            if address is None:
                if not follows and not row["status"].startswith("MAINT"):
                    self._order(f"set server {backend}/{name} state maint")
                continue
            if row["addr"] != address:
                host, _, port = address.rpartition(":")
                self._order(f"set server {backend}/{name} addr {host} port {port}", answers=("changed", "no need"))
            if not follows and row["status"].startswith("MAINT"):
                self._order(f"set server {backend}/{name} state ready")

    def set_plan(self, entries: Mapping[str, str]) -> None:
        """Change all shares, and which versions there are, at once."""
        answer = self.send("prepare map plan.map")
        started, _, number = answer.partition(": ")
        if started != "New version created":
            raise EndpointNotReady(f"the gateway refused a new plan: {answer}", do="Apply the endpoint again")
        for key, value in entries.items():
            self._order(f"add map @{number} plan.map {key} {value}")
        self._order(f"commit map @{number} plan.map")

    def _order(self, command: str, answers: tuple[str, ...] = ()) -> None:
        answer = self.send(command)
        if answer and not any(word in answer for word in answers):
            raise EndpointNotReady(f"the gateway refused '{command}': {answer}", do="Apply the endpoint again")
