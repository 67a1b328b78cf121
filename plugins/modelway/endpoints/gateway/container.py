"""The gateway's container, see include/images/gateway: HAProxy, changed by the agent that is run in it.

The configuration ``haproxy.cfg`` and the map ``plan.map`` are in :data:`FOLDER`; HAProxy makes its runtime socket at
:data:`SOCKET` and listens on :data:`PORT`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelway.endpoints.gateway.agent import packed
from modelway.endpoints.gateway.commands import Command
from modelway.endpoints.gateway.runtime_socket import Transport
from modelway.errors import EndpointNotReady

#: what ``make images`` builds
GATEWAY_IMAGE = "modelway-gateway:0.1.0"
FOLDER = "/gateway"
#: its folder is writable in the container, and nothing else needs to be
SOCKET = Path("/run/gateway/haproxy.sock")
PORT = 8080
USER = 1000
#: seconds that one execution of the agent waits at most for what is about to come: it costs more than a look of its own
PATIENCE = 1.0
#: seconds that HAProxy may take to end the requests in progress
GRACE_SECONDS = 5
#: without what Python loads for programs of other kinds: it starts in a third of the time
_AGENT = ("python3", "-I", "-S", "/opt/gateway/agent.py")

#: runs a command in the container and returns what it printed; raises EndpointNotReady when it cannot be run
Execute = Callable[[Sequence[str]], str]


def gateway_image() -> str:
    """Return the image of gateways: ``MODELWAY_GATEWAY_IMAGE``, else ``GATEWAY_IMAGE``."""
    return os.environ.get("MODELWAY_GATEWAY_IMAGE") or GATEWAY_IMAGE


def agent_command(
    *,
    commands: Sequence[Command] = (),
    files: Mapping[str, str] | None = None,
    unless_changed: Mapping[str, str] | None = None,
    pages: Sequence[str] = (),
    up: Sequence[Sequence[str]] = (),
    patience: float = 0.0,
) -> list[str]:
    """Return the command that makes one change in the container; see ``agent.answer_to``."""
    request: dict[str, object] = {
        "folder": FOLDER,
        "socket": str(SOCKET),
        "commands": list(commands),
        "pages": list(pages),
    }
    if patience:
        # An agent of an earlier image does not know it, and answers at once.
        request |= {"up": [list(group) for group in up], "patience": patience}
    if files is not None:
        request |= {"files": dict(files), "unless_changed": dict(unless_changed or {})}
    return [*_AGENT, packed(request)]


def read_answer(printed: str) -> Mapping[str, object]:
    """Return what the agent answered.

    :raises EndpointNotReady: HAProxy does not answer, or it is no answer of the agent
    """
    try:
        answer = json.loads(printed)
        error = answer.get("error")
    except (ValueError, AttributeError):
        answer, error = {}, printed.strip()[-500:] or "nothing was printed"
    if error:
        raise EndpointNotReady(f"the gateway does not answer ({error})", do="Apply the endpoint again")
    return dict(answer)


def in_container(execute: Execute) -> Transport:
    """Return the transport by which one execution of the agent sends all commands of a change."""

    def send(commands: Sequence[Command]) -> Sequence[str]:
        answers = read_answer(execute(agent_command(commands=commands)))["answers"]
        return [str(answer) for answer in answers] if isinstance(answers, list) else []

    return send
