"""A server that is measured, in processes of its own on the first core, suspended while others are measured."""

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from forms import Form, Samples

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from closed_loop import Seen, in_turn, run


class Contestant:
    """A server that was started."""

    def __init__(self, command: str, form: Form, samples: Samples, *, environ: Mapping[str, str], cwd: Path) -> None:
        """Start it and wait for its first answer.

        :param command: ``{port}`` is replaced in it
        """
        self._form, self._samples, self._requests = form, samples, samples.requests(form)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        text = command.format(port=self.port)
        log = cwd / f"{self.port}.log"
        began = time.perf_counter()
        with log.open("w") as file:
            self.process = subprocess.Popen(
                shlex.split(text),
                env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
                cwd=cwd,
                stdout=file,
                stderr=file,
                preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
                start_new_session=True,
            )
        while not self._answers():
            if self.process.poll() is not None or time.perf_counter() - began > 300:
                self.stop()
                raise SystemExit(f"does not answer: {text}\n{log.read_text()[-2000:]}")
            time.sleep(0.005)
        #: seconds until it answered
        self.ready = time.perf_counter() - began
        self._signal(signal.SIGSTOP)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def measure(self, clients: int, number: int) -> tuple[Seen, float]:
        """Send ``number`` requests; return what the clients saw and the CPU seconds of all of its threads."""
        with self.running():
            # what it left undone when it was suspended is not this turn's
            run(self.port, clients=clients, more=in_turn(self._requests, number=2 * clients))
            before = self._cpu()
            seen = run(self.port, clients=clients, more=in_turn(self._requests, number=number))
            cpu = self._cpu() - before
        if seen.wrong:
            raise SystemExit(f"{len(seen.wrong)} requests were not answered right: {seen.wrong[:3]}")
        self._samples.check(self._form, seen.bodies)
        return seen, cpu

    def stop(self) -> None:
        """End all of its processes."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        try:
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _cpu(self) -> float:
        """Return the CPU seconds of all threads, to the nanosecond."""
        total = 0
        for process in self._processes():
            with suppress(FileNotFoundError):
                for task in Path(f"/proc/{process.pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        body = self._requests[0].partition(b"\r\n\r\n")[2]
        try:
            connection.request("POST", self._form.path, body, {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
