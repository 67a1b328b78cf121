"""What the server counts, in Prometheus' text format; every series carries ``model`` and ``model_version``."""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_LABELS = ("model", "model_version")
#: seconds; small models answer in a tenth of a millisecond, large ones in seconds. A rollout compares versions by how
#: many answers are above a bound, so that there are one or two to each doubling of the time
SECONDS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.0025, 0.0035, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 2.5, 3.5, 5.0, 7.5, 10.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics(Collector):
    """Counters of infer requests of one model version; plain numbers, which become series when they are read."""

    def __init__(self, *, model: str, version: str) -> None:
        """Create the series with the value zero."""
        self._registry = CollectorRegistry()
        self._names = (model, version)
        self._lock = threading.Lock()
        self._by_code, self._by_code_grpc = {200: 0}, {200: 0}
        self._invalid = 0
        self._seconds, self._calls, self._rows = _Histogram(SECONDS), _Histogram(SECONDS), _Histogram(_ROWS)
        #: infer requests being answered
        self.in_flight = _Gauge(self._lock)
        self._registry.register(self)

    def count(self, code: int, seconds: float, *, grpc: bool = False) -> None:
        """Count one answered request with its HTTP status, or the one that stands for its status of gRPC."""
        with self._lock:
            self._by_code[code] = self._by_code.get(code, 0) + 1
            if grpc:
                self._by_code_grpc[code] = self._by_code_grpc.get(code, 0) + 1
            self._seconds.add(seconds)

    def count_invalid(self) -> None:
        """Count an answer with an output that is not valid."""
        with self._lock:
            self._invalid += 1

    def call(self, rows: int, seconds: float) -> None:
        """Count one call of the model."""
        with self._lock:
            self._rows.add(rows)
            self._calls.add(seconds)

    def text(self) -> bytes:
        """Return all series in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Return all series; called by the registry."""
        requests = CounterMetricFamily(
            "modelway_requests", "Infer requests answered, by HTTP status.", labels=(*_LABELS, "code")
        )
        calls = CounterMetricFamily(
            "modelway_grpc_requests", "Those of them that came by gRPC.", labels=(*_LABELS, "code")
        )
        invalid = CounterMetricFamily(
            "modelway_invalid_answers", "Answers with an output that is not valid.", labels=_LABELS
        )
        flight = GaugeMetricFamily("modelway_requests_in_flight", "Infer requests being answered.", labels=_LABELS)
        with self._lock:
            for family, by_code in ((requests, self._by_code), (calls, self._by_code_grpc)):
                for code, number in by_code.items():
                    family.add_metric((*self._names, str(code)), number)
            invalid.add_metric(self._names, self._invalid)
            flight.add_metric(self._names, self.in_flight.value)
            yield from (requests, calls, invalid)
            yield flight
            yield self._family("modelway_request_seconds", "Time of an infer request.", self._seconds)
            yield self._family("modelway_call_seconds", "Time of one call of the model.", self._calls)
            yield self._family("modelway_batch_rows", "Rows of one call of the model.", self._rows)

    def _family(self, name: str, text: str, histogram: "_Histogram") -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._names, histogram.buckets(), histogram.sum)
        return family


class _Gauge:
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.value = 0

    def inc(self) -> None:
        with self._lock:
            self.value += 1

    def dec(self) -> None:
        with self._lock:
            self.value -= 1


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts, each with its upper bound."""
        total, found = 0, []
        for bound, number in zip((*map(str, map(float, self._bounds)), "+Inf"), self._counts, strict=True):
            total += number
            found.append((bound, float(total)))
        return found
