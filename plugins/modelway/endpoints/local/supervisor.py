"""``python -m modelway.endpoints.local.supervisor STATE``: restart processes of one endpoint that ended by themselves.

One such process per endpoint outlives the command or worker that applied the endpoint, as its servers do. It ends when
the endpoint is stopped, deleted, or has another supervisor.
"""

import os
import sys
import time
from pathlib import Path

from modelway.endpoints.gateway.locking import locked
from modelway.endpoints.local.server import Server
from modelway.endpoints.local.service import Service
from modelway.endpoints.local.state import Life, ServerState
from modelway.errors import ImageInvalid, ModelwayError
from modelway.oci.contents import is_unpacked
from modelway.oci.manifest import parse_reference
from modelway.platforms.processes import marked

#: so often within so many seconds a process is started again; then it is left as it is
RESTARTS, WINDOW = 5, 600.0
#: seconds before the second restart within the window; each further one waits twice as long
_PAUSE = 0.5
#: seconds between two checks
_INTERVAL = 0.25


class Supervisor:
    """Supervises one endpoint, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self) -> None:
        """Supervise the endpoint until it is no longer this process's."""
        unfinished = False
        while True:
            try:
                # The starter of this process records its id before it releases the lock.
                with locked(self.folder.parent, self.folder.name):
                    if (service := self._own()) is None:
                        return
                while not (unfinished or _has_work(service)):
                    time.sleep(_INTERVAL)
                    marked.reap()
                    if (service := self._own()) is None:
                        return
                with locked(self.folder.parent, self.folder.name):
                    if (service := self._own()) is None:
                        return
                    unfinished = True
                    _heal(service)
                    unfinished = False
            except ModelwayError as error:
                _log(str(error))
                time.sleep(1)

    def _own(self) -> Service | None:
        """Return the endpoint, None when this process is not its supervisor."""
        service = Service.read(self.folder)
        return service if service is not None and service.state.supervisor_pid == os.getpid() else None


def _has_work(service: Service) -> bool:
    """Return whether something is to be done now."""
    if _is_due(service.state.gateway_life) and not service.gateway.has_process:
        return True
    for server in service.wanted:
        if server.is_running:
            if server.state.port is None and server.note_port():
                return True
        elif server.state.pid is not None or _is_due(server.state.life):
            return True
    return False


def _heal(service: Service) -> None:
    if not service.gateway.has_process:
        _heal_gateway(service)
    started = [server for server in service.wanted if _heal_server(server)]
    try:
        service.write()
    except ModelwayError:
        # what is not in the state would be started again and again
        for server in started:
            server.stop(patience=1)
        raise
    # A server that is not there is removed at once: another program may get its port.
    if service.gateway.is_running:
        service.gateway.set_addresses(service.state.routes)


def _heal_server(server: Server) -> bool:
    """Record what became of a server, and return whether it was restarted."""
    state = server.state
    if server.is_running:
        if server.note_port():
            state.life.problem = ""
        return False
    if state.pid is not None:
        _note_end(state.life, what=state.name, problem=server.describe_end())
        state.pid = state.port = None
    if not _is_due(state.life):
        return False
    state.life.restarts += 1
    try:
        _refuse_changed(state)
        server.start()
    except ModelwayError as error:
        _note_end(state.life, what=state.name, problem=str(error))
        return False
    return True


def _refuse_changed(server: ServerState) -> None:
    """Refuse to serve from an unpacked image that is no longer as it was.

    :raises ImageInvalid: a file was changed, added or removed
    """
    if not is_unpacked(Path(server.image_root), digest=parse_reference(server.image).digest):
        raise ImageInvalid(
            f"version {server.version}: its unpacked image is not as it was unpacked",
            where=server.image_root,
            do="Restart the endpoint, which unpacks it anew",
        )


def _heal_gateway(service: Service) -> None:
    state = service.state
    if state.gateway.pid is not None:
        _note_end(state.gateway_life, what="gateway", problem="the gateway ended")
        state.gateway.pid = None
    if not _is_due(state.gateway_life):
        return
    state.gateway_life.restarts += 1
    try:
        service.ensure_gateway(host=state.gateway.host, port=state.gateway.port)
        state.gateway_life.problem = ""
    except ModelwayError as error:
        _note_end(state.gateway_life, what="gateway", problem=str(error))


def _note_end(life: Life, *, what: str, problem: str) -> None:
    now = time.time()
    life.ends = [*(end for end in life.ends if end > now - WINDOW), now]
    life.problem = problem
    if len(life.ends) > RESTARTS:
        life.given_up = True
        life.problem = (
            f"{problem}; that was the {len(life.ends)}th time in {WINDOW / 60:g} minutes, so it is not started again: "
            "apply or restart the endpoint"
        )
    _log(f"{what}: {life.problem}")


def _is_due(life: Life) -> bool:
    """Return whether a process that does not run may be started now."""
    if life.given_up:
        return False
    pause = _PAUSE * 2 ** (len(life.ends) - 2) if len(life.ends) > 1 else 0.0
    return not life.ends or time.time() >= life.ends[-1] + pause


def _log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    Supervisor(Path(sys.argv[1]).parent).run()
