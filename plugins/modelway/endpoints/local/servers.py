"""Server processes of the local endpoint: one per version, from its unpacked image, on a free loopback port."""

import http.client
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from modelway.artifacts.whole_files import writing
from modelway.endpoints.local.state import ServerState
from modelway.errors import EndpointNotReady, ImageInvalid
from modelway.platforms.processes import marked as _process

#: exit status of a server whose model cannot be loaded (``modelway.server.__main__``)
_CANNOT_SERVE = 2
#: seconds a server may take to drain; it gives up by itself after 25
_DRAIN = 30.0


def server_folder(folder: Path, server: ServerState) -> Path:
    """Return the folder of one server inside that of its endpoint; the slot keeps two of one version apart."""
    return folder / f"v{server.version}-{server.slot}"


def is_running(folder: Path, server: ServerState) -> bool:
    """Return whether the server's process is there."""
    return _process.running(server.pid, _marker(folder, server))


def is_ready(folder: Path, server: ServerState, *, patience: float = 1.0) -> bool:
    """Return whether the server takes requests, asked over HTTP; notes its port.

    :param patience: seconds for the answer of a server that runs; one that refuses or is gone is not waited for
    """
    end = time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        if not is_running(folder, server):
            return False
        if not note_port(folder, server):
            time.sleep(0.02)
            continue
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=left)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except ConnectionRefusedError:
            return False
        except (OSError, http.client.HTTPException):
            # broken off, or out of time: the loop asks whether it still runs
            time.sleep(0.02)
        finally:
            connection.close()
    return False


def note_port(folder: Path, server: ServerState) -> bool:
    """Note the port of a server that was started, and return whether it is known yet."""
    if server.port is None:
        server.port = _port(folder, server)
    return server.port is not None


def start(folder: Path, server: ServerState) -> None:
    """Start the server's process from its unpacked image and note its id; :func:`wait_ready` waits for it.

    :raises ImageInvalid: when the model's folder is not in the image
    :raises NotWritable: when the endpoint's folder cannot be written
    """
    model_dir = Path(server.image_root) / server.model_path.lstrip("/")
    if not model_dir.is_dir():
        raise ImageInvalid(
            f"version {server.version}: there is no folder {server.model_path} in the image",
            where=server.image,
            do="Build the image again, or name the folder that the model is in",
        )
    own = server_folder(folder, server)
    with writing(own):
        own.mkdir(parents=True, exist_ok=True)
        (own / "run.json").unlink(missing_ok=True)
    argv = [sys.executable, "-P", "-m", "modelway.server", "--model-dir", str(model_dir), "--name", server.model]
    argv += ["--version", str(server.version), "--host", "127.0.0.1", "--port", "0"]
    argv += ["--run-file", _marker(folder, server)]
    server.port = None
    server.pid = _process.spawn(argv, folder=own, log=own / "server.log")


def wait_ready(folder: Path, server: ServerState, *, until: float) -> None:
    """Wait until the server takes requests.

    :param until: when to give up, on the clock of ``time.monotonic``
    :raises ImageInvalid: when the model cannot be loaded
    :raises EndpointNotReady: when the server ended, or is not ready in time; with the last lines of its log
    """
    while True:
        if is_ready(folder, server):
            return
        if not is_running(folder, server):
            raise _ended(folder, server)
        if time.monotonic() > until:
            raise EndpointNotReady(
                f"version {server.version} did not become ready in time; the end of its log:\n{_log(folder, server)}",
                where=server.image,
                do="Try again when the machine is less busy, or ask the model's author",
            )
        time.sleep(0.05)


def stop(folder: Path, server: ServerState, *, patience: float = _DRAIN) -> None:
    """Let the server drain and end; kill it after ``patience`` seconds."""
    _process.stop(server.pid, _marker(folder, server), patience=patience)
    server.pid = server.port = None


def stop_strays(folder: Path, servers: list[ServerState], *, others: Mapping[int, str]) -> None:
    """End processes of this endpoint that its state does not know, as after a crash between start and note.

    :param others: markers of the processes that are no servers, by their ids
    """
    known = {server.pid: _marker(folder, server) for server in servers if server.pid is not None}
    for pid, marker in list(_process.strays(folder, {**known, **others})):
        _process.stop(pid, marker, patience=5)


def _marker(folder: Path, server: ServerState) -> str:
    return str(server_folder(folder, server) / "run.json")


def _port(folder: Path, server: ServerState) -> int | None:
    try:
        document = json.loads((server_folder(folder, server) / "run.json").read_text())
    except FileNotFoundError:
        return None
    return int(document["port"]) if document["pid"] == server.pid else None


def describe_end(server: ServerState) -> str:
    """Return how a server ended, as far as this process can know."""
    status = None if server.pid is None else _process.exit_status(server.pid)
    return "its server ended" if status is None else f"its server ended with status {status}"


def _ended(folder: Path, server: ServerState) -> Exception:
    log = _log(folder, server)
    status = _process.exit_status(server.pid or 0)
    if status == _CANNOT_SERVE:
        return ImageInvalid(
            f"version {server.version} cannot be served; the end of its log:\n{log}",
            where=server.image,
            do="Freeze the model and build the image again",
        )
    return EndpointNotReady(
        f"the server of version {server.version} ended with status {status}; the end of its log:\n{log}",
        where=server.image,
        do="Try again; a negative status is the signal that ended it, -9 often means too little memory",
    )


def _log(folder: Path, server: ServerState) -> str:
    return _process.tail(server_folder(folder, server) / "server.log")
