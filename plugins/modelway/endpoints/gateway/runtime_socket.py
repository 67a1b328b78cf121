"""The runtime interface of a gateway: over its socket on this machine, or by the agent in its container."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelway.endpoints.gateway import agent
from modelway.endpoints.gateway.commands import (
    Command,
    Stats,
    address_commands,
    plan_commands,
    read_stats,
    refuse_refused,
)
from modelway.errors import EndpointNotReady, NotWritable

#: a unix socket's path has at most 107 bytes, and HAProxy binds a longer temporary name first
_LONGEST_SOCKET_PATH = 85

#: sends commands and returns their answers (see ``agent.send``); raises EndpointNotReady where nothing answers
Transport = Callable[[Sequence[Command]], Sequence[str]]


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


def unix_socket(path: Path) -> Transport:
    """Return the transport over the socket at ``path``; every command is a connection of its own."""

    def send(commands: Sequence[Command]) -> Sequence[str]:
        try:
            return agent.send(str(path), commands)
        except OSError as error:
            raise EndpointNotReady(
                f"the gateway does not answer ({error})", where=str(path), do="Apply the endpoint again"
            ) from error

    return send


class Runtime:
    """The runtime interface of one gateway."""

    def __init__(self, transport: Transport) -> None:
        """Send all commands over ``transport``, those of one change together."""
        self._transport = transport

    def send(self, command: str) -> str:
        """Send a command and return the answer.

        :raises EndpointNotReady: when the gateway does not answer
        """
        return self.run([(command, None)])[0]

    def run(self, commands: Sequence[Command]) -> Sequence[str]:
        """Send the commands of one change and return the answers.

        :raises EndpointNotReady: when the gateway does not answer, or refused one; later ones were not sent then
        """
        answers = self._transport(commands) if commands else []
        refuse_refused(commands, answers)
        return answers

    def stats(self) -> Stats:
        """Return the counters of all backends and servers."""
        return read_stats(self.send("show stat"))

    def set_addresses(self, wanted: Mapping[tuple[str, str], str | None]) -> None:
        """Bring every server to its address, or out of use; only what differs is changed."""
        self.run(address_commands(self.stats(), wanted))

    def set_plan(self, entries: Mapping[str, str]) -> None:
        """Change all shares, and which versions there are, at once."""
        self.run(plan_commands(entries))
