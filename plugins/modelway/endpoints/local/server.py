"""Server processes of the local endpoint: each from its predictor's unpacked image, on a free loopback port."""

import http.client
import json
import math
import sys
import time
from pathlib import Path

from modelway.artifacts.whole_files import writing
from modelway.endpoints.local.state import ServerState
from modelway.errors import EndpointNotReady, ImageInvalid
from modelway.platforms.processes import marked

#: the module that is the server's program
PROGRAM = "modelway.server"
#: exit status of a server whose model cannot be loaded (``modelway.server.__main__``)
_CANNOT_SERVE = 2
#: seconds a server may take to say what it counted
_METRICS = 2.0
#: seconds a server may take to drain; it stops waiting by itself after 25
_DRAIN = 30.0


class Server:
    """One server process, or one that should run; its facts are written into its state."""

    def __init__(self, endpoint_folder: Path, state: ServerState) -> None:
        """Work in a folder of its own inside that of its endpoint; the slot separates two of one predictor's name."""
        self.state = state
        replica = f".{state.replica}" if state.replica else ""
        self.folder = endpoint_folder / f"{state.name}-{state.slot}{replica}"

    @property
    def marker(self) -> str:
        """The argument by which the process is found."""
        return str(self.folder / "run.json")

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return marked.running(self.state.pid, self.marker)

    def is_ready(self, *, patience: float = 1.0) -> bool:
        """Return whether the server accepts requests, by its own answer over HTTP; notes its port.

        :param patience: seconds for the answer of a server that runs; one that refuses or is gone is not waited for
        """
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            if not self.is_running:
                return False
            if not self.note_port():
                time.sleep(0.02)
                continue
            connection = http.client.HTTPConnection("127.0.0.1", self.state.port, timeout=left)
            try:
                connection.request("GET", "/v2/health/ready")
                return connection.getresponse().status == 200
            except ConnectionRefusedError:
                return False
            except (OSError, http.client.HTTPException):
                # broken off, or out of time: the loop checks whether it still runs
                time.sleep(0.02)
            finally:
                connection.close()
        return False

    def metrics_page(self) -> str:
        """Return what it counted, in Prometheus' text format; empty where it does not answer."""
        return self.page("/metrics")

    def page(self, path: str) -> str:
        """Return what it answers to a path; empty where it does not answer."""
        if self.state.port is None:
            return ""
        connection = http.client.HTTPConnection("127.0.0.1", self.state.port, timeout=_METRICS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else ""
        except (OSError, http.client.HTTPException, UnicodeDecodeError):
            return ""
        finally:
            connection.close()

    def note_port(self) -> bool:
        """Note the port of a server that was started, and return whether it is known yet."""
        if self.state.port is None:
            self.state.port = self._written_port()
        return self.state.port is not None

    def start(self) -> None:
        """Start the process from its unpacked image and note its id; :meth:`wait_ready` waits for it.

        :raises ImageInvalid: when the model's folder is not in the image
        :raises NotWritable: when the endpoint's folder cannot be written
        """
        state = self.state
        model_dir = Path(state.image_root) / state.model_path.lstrip("/")
        if not model_dir.is_dir():
            raise ImageInvalid(
                f"version {state.version}: there is no folder {state.model_path} in the image",
                where=state.image,
                do="Build the image again, or name the folder that the model is in",
            )
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "run.json").unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", PROGRAM, "--model-dir", str(model_dir), "--name", state.model]
        argv += ["--version", str(state.version), "--host", "127.0.0.1", "--port", "0"]
        # They were when the image was unpacked, and the program may have been changed to read its weights in place.
        argv += ["--run-file", self.marker, "--files-are-checked"]
        if state.other_model:
            argv += ["--model", state.other_model]
        if rows := state.batching.get("rows"):
            argv += ["--batch-size", str(rows)]
        if cpu := state.resources.get("cpu"):
            argv += ["--threads", str(math.ceil(cpu))]
        state.port = None
        state.pid = marked.spawn(argv, folder=self.folder, log=self.folder / "server.log")

    def wait_ready(self, *, until: float) -> None:
        """Wait until the server accepts requests.

        :param until: when to give up, on the clock of ``time.monotonic``
        :raises ImageInvalid: when the model cannot be loaded
        :raises EndpointNotReady: when the server ended, or is not ready in time; with the last lines of its log
        """
        while True:
            if self.is_ready():
                return
            if not self.is_running:
                raise self._ended()
            if time.monotonic() > until:
                raise EndpointNotReady(
                    f"version {self.state.version} did not become ready in time; the end of its log:\n{self._log()}",
                    where=self.state.image,
                    do="Try again when the machine is less busy, or ask the model's author",
                )
            time.sleep(0.05)

    def stop(self, *, patience: float = _DRAIN) -> None:
        """Let the server drain and end; kill it after ``patience`` seconds."""
        marked.stop(self.state.pid, self.marker, patience=patience)
        self.state.pid = self.state.port = None

    def describe_end(self) -> str:
        """Return how the server ended, as far as this process can know."""
        status = None if self.state.pid is None else marked.exit_status(self.state.pid)
        return "its server ended" if status is None else f"its server ended with status {status}"

    def _written_port(self) -> int | None:
        try:
            document = json.loads((self.folder / "run.json").read_text())
        except FileNotFoundError:
            return None
        return int(document["port"]) if document["pid"] == self.state.pid else None

    def _ended(self) -> Exception:
        status = marked.exit_status(self.state.pid or 0)
        if status == _CANNOT_SERVE:
            return ImageInvalid(
                f"version {self.state.version} cannot be served; the end of its log:\n{self._log()}",
                where=self.state.image,
                do="Freeze the model and build the image again",
            )
        return EndpointNotReady(
            f"the server of version {self.state.version} ended with status {status}; the end of its log:\n"
            f"{self._log()}",
            where=self.state.image,
            do="Try again; a negative status is the signal that ended it, -9 often means too little memory",
        )

    def _log(self) -> str:
        return marked.tail(self.folder / "server.log")
