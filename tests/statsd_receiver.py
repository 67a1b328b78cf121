"""A receiver of StatsD's datagrams with the tags of InfluxDB, as Airflow sends them where `[metrics]` says so."""

import re
import socket
import threading
from dataclasses import dataclass
from typing import Self

_LINE = re.compile(r"(?P<name>[^,:]+)(?:,(?P<tags>[^:]*))?:(?P<value>[^|]+)\|(?P<kind>\w+)")


@dataclass(frozen=True)
class Metric:
    """One line: ``airflow.modelway.run.ended,model=digits,state=success:1|c``."""

    name: str
    kind: str
    value: float
    tags: dict[str, str]


class StatsdReceiver:
    """Receives until it is closed; :meth:`of` returns what came of our metrics."""

    def __init__(self, *, prefix: str = "airflow.modelway.") -> None:
        self._prefix = prefix
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram ends it.
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while data := self._socket.recv(65_536):
            self._lines += [line for line in data.decode().splitlines() if line.startswith(self._prefix)]

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's configuration that sends to it, as docs/operations.md has it."""
        values = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(self.port)}
        values |= {"STATSD_INFLUXDB_ENABLED": "True", "METRICS_ALLOW_LIST": "modelway"}
        return {f"AIRFLOW__METRICS__{name}": value for name, value in values.items()}

    @property
    def names(self) -> set[str]:
        """The names that came, without what Airflow puts before them."""
        return {metric.name for metric in self.of("")}

    def of(self, name: str, **tags: str) -> list[Metric]:
        """Return the metrics whose names begin so and that have these tags, in the order in which they came."""
        found = []
        for line in list(self._lines):
            match = _LINE.fullmatch(line)
            assert match is not None, line
            pairs = dict(pair.split("=", 1) for pair in (match["tags"] or "").split(",") if pair)
            metric = Metric(match["name"].removeprefix("airflow."), match["kind"], float(match["value"]), pairs)
            if metric.name.removeprefix("modelway.").startswith(name) and tags.items() <= pairs.items():
                found.append(metric)
        return found
