"""``python -m modelway.endpoints.local.supervisor STATE``: start again what of one endpoint ended by itself.

One such process per endpoint outlives the command or worker that applied the endpoint, as its servers do. It ends when
the endpoint is stopped, deleted, or has another supervisor.
"""

import os
import sys
import time
from pathlib import Path

from modelway.endpoints.gateway import process as _gateway
from modelway.endpoints.gateway.haproxy import addresses
from modelway.endpoints.local import servers as _servers
from modelway.endpoints.local.state import Life, ServerState, State, locked, read_state, write_state
from modelway.errors import ImageInvalid, ModelwayError
from modelway.oci.contents import is_unpacked
from modelway.oci.manifest import parse_reference
from modelway.platforms.processes import marked as _process

#: so often within so many seconds a process is started again; then it is left as it is
RESTARTS, WINDOW = 5, 600.0
#: seconds before the second restart within the window; each further one waits twice as long
_PAUSE = 0.5
#: seconds between two checks
_INTERVAL = 0.25


def marker(folder: Path) -> str:
    """Return the argument by which the supervisor's process is found."""
    return str(folder / "state.json")


def ensure(folder: Path, state: State) -> None:
    """Have a supervisor run; note its id."""
    if _process.running(state.supervisor_pid, marker(folder)):
        return
    argv = [sys.executable, "-P", "-m", "modelway.endpoints.local.supervisor", marker(folder)]
    state.supervisor_pid = _process.spawn(argv, folder=folder, log=folder / "supervisor.log")
    write_state(folder, state)


def stop(folder: Path, state: State) -> None:
    """End the supervisor; called with the endpoint's lock, so that it is not in the middle of a change."""
    _process.stop(state.supervisor_pid, marker(folder), patience=2)
    state.supervisor_pid = None


def supervise(folder: Path) -> None:
    """Look after the endpoint until it is no longer this process's."""
    unfinished = False
    while True:
        try:
            # Whoever started this process notes its id before the lock is free.
            with locked(folder.parent, folder.name):
                if (state := _own(folder)) is None:
                    return
            while not (unfinished or _work(folder, state)):
                time.sleep(_INTERVAL)
                _process.reap()
                if (state := _own(folder)) is None:
                    return
            with locked(folder.parent, folder.name):
                if (state := _own(folder)) is None:
                    return
                unfinished = True
                _heal(folder, state)
                unfinished = False
        except ModelwayError as error:
            _say(str(error))
            time.sleep(1)


def _own(folder: Path) -> State | None:
    """Return the endpoint's state, None when this process is not its supervisor."""
    state = read_state(folder)
    return state if state is not None and state.supervisor_pid == os.getpid() else None


def _work(folder: Path, state: State) -> bool:
    """Return whether something is to be done now."""
    if _is_due(state.gateway_life) and not _process.running(state.gateway_pid, _gateway.marker(folder)):
        return True
    for server in state.wanted:
        if _servers.is_running(folder, server):
            if server.port is None and _servers.note_port(folder, server):
                return True
        elif server.pid is not None or _is_due(server.life):
            return True
    return False


def _heal(folder: Path, state: State) -> None:
    if not _process.running(state.gateway_pid, _gateway.marker(folder)):
        _heal_gateway(folder, state)
    started = [server for server in state.wanted if _heal_server(folder, server)]
    try:
        write_state(folder, state)
    except ModelwayError:
        # what nobody knows of would be started again and again
        for server in started:
            _servers.stop(folder, server, patience=1)
        raise
    # A server that is not there is removed at once: another program may get its port.
    if _gateway.is_running(folder, state):
        _gateway.runtime(folder).set_addresses(addresses(state))


def _heal_server(folder: Path, server: ServerState) -> bool:
    """Note what became of a server, and return whether it was started again."""
    if _servers.is_running(folder, server):
        if _servers.note_port(folder, server):
            server.life.problem = ""
        return False
    if server.pid is not None:
        _note_end(server.life, what=f"version {server.version}", problem=_servers.describe_end(server))
        server.pid = server.port = None
    if not _is_due(server.life):
        return False
    server.life.restarts += 1
    try:
        _refuse_changed(server)
        _servers.start(folder, server)
    except ModelwayError as error:
        _note_end(server.life, what=f"version {server.version}", problem=str(error))
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


def _heal_gateway(folder: Path, state: State) -> None:
    if state.gateway_pid is not None:
        _note_end(state.gateway_life, what="gateway", problem="the gateway ended")
        state.gateway_pid = None
    if not _is_due(state.gateway_life):
        return
    state.gateway_life.restarts += 1
    try:
        _gateway.ensure(folder, state, host=state.host, port=state.port)
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
    _say(f"{what}: {life.problem}")


def _is_due(life: Life) -> bool:
    """Return whether a process that does not run may be started now."""
    if life.given_up:
        return False
    pause = _PAUSE * 2 ** (len(life.ends) - 2) if len(life.ends) > 1 else 0.0
    return not life.ends or time.time() >= life.ends[-1] + pause


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]).parent)
