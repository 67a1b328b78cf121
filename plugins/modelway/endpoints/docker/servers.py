"""The containers of the servers: created, inspected, stopped; and why one does not become ready."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelway.endpoints.docker.containers import (
    BODY,
    SERVER_GRACE_SECONDS,
    Key,
    Runnable,
    changeable,
    server_body,
)
from modelway.endpoints.docker.gateway import DockerGateway
from modelway.endpoints.docker.state import ServerState
from modelway.endpoints.gateway.container import PATIENCE, PORT
from modelway.errors import EndpointNotReady, ImageInvalid
from modelway.platforms.docker.engine import Engine, Object

#: exit status of a server whose model cannot be loaded (``modelway.server.__main__``)
_CANNOT_SERVE = 2
#: seconds between two looks at servers that start
_INTERVAL = 0.25
_LINES = 12


class Servers:
    """The containers of one endpoint's servers."""

    def __init__(self, engine: Engine, key: Key) -> None:
        self.engine = engine
        self.key = key

    def found(self) -> dict[str, Object]:
        """Return the containers by name, as the engine describes them."""
        listed = self.engine.containers(self.key.labels("server"))
        with ThreadPoolExecutor(max(1, min(8, len(listed)))) as asking:
            inspected = list(asking.map(lambda one: self.engine.inspect(one["Id"]), listed))
        return {one["Name"].lstrip("/"): one for one in inspected if one is not None}

    def ensure(self, state: ServerState, runnable: Runnable, *, host: str, found: Mapping[str, Object]) -> bool:
        """Make sure that a server's container runs as it should; return whether it was started now."""
        name = self.key.server(state)
        body = server_body(self.key, state, runnable, host=host)
        limits = changeable(body)
        current = found.get(name)
        if current is not None and not _can_become(current, body):
            self.stop([state])
            current = None
        if current is None:
            self.engine.start(self.engine.create(body, name))
            return True
        if changeable(current) != limits:
            self.engine.update(current["Id"], {**limits, "RestartPolicy": {"Name": limits["RestartPolicy"]}})
        if current["State"].get("Paused"):
            self.engine.resume(current["Id"])
        elif not current["State"].get("Running"):
            self.engine.start(current["Id"])
            return True
        return False

    def wait_ready(self, states: Sequence[ServerState], gateway: DockerGateway, *, until: float) -> None:
        """Wait until all accept requests.

        :param until: when to give up, on the clock of ``time.monotonic``
        :raises ImageInvalid: when a model cannot be loaded
        :raises EndpointNotReady: when a server ends, or is not ready in time; with the last lines of its log
        """
        waiting = list(states)
        while waiting:
            ready = are_ready(waiting, gateway, patience=PATIENCE)
            waiting = [state for state, is_ready in zip(waiting, ready, strict=True) if not is_ready]
            for state in waiting:
                self._refuse_ended(state)
            if waiting and time.monotonic() > until:
                raise EndpointNotReady(
                    f"predictor {waiting[0].name} did not become ready in time; the end of its log:\n"
                    f"{self._log(waiting[0])}",
                    where=waiting[0].image,
                    do="Try again when the engine's machine is less busy, or ask the model's author",
                )
            if waiting:
                time.sleep(_INTERVAL)

    def stop(self, states: Sequence[ServerState], *, remove: bool = True) -> None:
        """Let servers drain and end, all at once; remove their containers."""
        self.stop_named([self.key.server(state) for state in states], remove=remove)

    def stop_named(self, names: Sequence[str], *, remove: bool = True) -> None:
        """Let the containers of these names drain and end, all at once; remove them."""

        def end(name: str) -> None:
            self.engine.stop(name, grace_seconds=SERVER_GRACE_SECONDS)
            if remove:
                self.engine.remove(name)

        if names:
            with ThreadPoolExecutor(len(names)) as stopping:
                list(stopping.map(end, names))

    def discard(self, states: Sequence[ServerState]) -> None:
        """Remove the containers of servers that never got a request."""
        for state in states:
            self.engine.remove(self.key.server(state))

    def url(self, state: ServerState, found: Mapping[str, Object], *, address: str) -> str:
        """Return where a server answers past the gateway, "" where it does not run."""
        container = found.get(self.key.server(state)) or {}
        published = ((container.get("NetworkSettings") or {}).get("Ports") or {}).get(f"{PORT}/tcp")
        return f"http://{address}:{published[0]['HostPort']}" if published else ""

    def problem(self, state: ServerState, found: Mapping[str, Object]) -> str:
        """Return why a server does not run, as far as its container says it."""
        container = found.get(self.key.server(state))
        if container is None:
            return "its container is not there"
        return _problem(container["State"])

    def _refuse_ended(self, state: ServerState) -> None:
        """Refuse to wait for a server that has ended.

        :raises ImageInvalid: when its model cannot be loaded
        :raises EndpointNotReady: with how it ended
        """
        container = self.engine.inspect(self.key.server(state)) or {}
        own: Mapping[str, Any] = container.get("State") or {"Error": "its container was removed"}
        # One that the engine has restarted says how it ended once it ends again.
        if own.get("Running") and not own.get("Restarting"):
            return
        if own.get("ExitCode") == _CANNOT_SERVE:
            raise ImageInvalid(
                f"version {state.version} cannot be served; the end of its log:\n{self._log(state)}",
                where=state.image,
                do="Freeze the model and build the image again",
            )
        raise EndpointNotReady(
            f"the server of {state.name} does not stay up: {_problem(own)}; the end of its log:\n{self._log(state)}",
            where=state.image,
            do="Give it more memory where it was killed (endpoint.resources.memory), else ask the model's author",
        )

    def _log(self, state: ServerState) -> str:
        lines = self.engine.last_lines(self.key.server(state), lines=_LINES).decode(errors="replace").strip()
        return lines or "(the log is empty)"


def ready_url(state: ServerState) -> str:
    """Return where a server says in the endpoint's network whether it is ready."""
    return f"http://{state.ip}:{PORT}/v2/health/ready"


def are_ready(states: Sequence[ServerState], gateway: DockerGateway, *, patience: float = 0.0) -> list[bool]:
    """Return whether servers accept requests, by their own answers to the gateway.

    :param patience: seconds to wait for all of them
    :raises EndpointNotReady: when the gateway does not run
    """
    if not states:
        return []
    urls = [ready_url(state) for state in states]
    return [status == 200 for status, _ in gateway.query(urls=urls, patience=patience).pages]


def _can_become(container: Object, body: Mapping[str, Any]) -> bool:
    """Whether a container is of this body, but for limits that can be changed: none can be taken away."""
    now, wanted = changeable(container), changeable(body)
    return container["Config"]["Labels"].get(BODY) == body["Labels"][BODY] and all(
        wanted[limit] or not now[limit] for limit in wanted
    )


def _problem(own: Mapping[str, Any]) -> str:
    if own.get("OOMKilled"):
        return "it was killed for want of memory"
    if own.get("Paused"):
        return "its container is paused"
    if own.get("Running") and not own.get("Restarting"):
        return ""
    if own.get("Error"):
        return f"the engine could not start it: {own['Error']}"
    return f"its server ended with status {own.get('ExitCode')}"
