"""What the server counts, in Prometheus' text format; every series carries ``model`` and ``model_version``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LABELS = ("model", "model_version")
#: seconds; small models answer in a tenth of a millisecond, large ones in seconds
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of infer requests of one model version."""

    def __init__(self, *, model: str, version: str) -> None:
        """Create the series with the value zero."""
        self._registry = CollectorRegistry()
        self._model, self._version = model, version
        self._requests = Counter(
            "modelway_requests", "Infer requests answered, by HTTP status.", (*_LABELS, "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "modelway_request_seconds", "Time of an infer request.", _LABELS, registry=self._registry, buckets=_SECONDS
        ).labels(model, version)
        self._rows = Histogram(
            "modelway_batch_rows", "Rows of one call of the model.", _LABELS, registry=self._registry, buckets=_ROWS
        ).labels(model, version)
        self.in_flight = Gauge(
            "modelway_requests_in_flight", "Infer requests being answered.", _LABELS, registry=self._registry
        ).labels(model, version)
        self._by_code: dict[int, Counter] = {}
        self.count(200, None)

    def count(self, code: int, seconds: float | None) -> None:
        """Count one answered request with its HTTP status; ``seconds`` None only creates the series."""
        if code not in self._by_code:
            self._by_code[code] = self._requests.labels(self._model, self._version, str(code))
        if seconds is not None:
            self._by_code[code].inc()
            self._seconds.observe(seconds)

    def rows(self, number: int) -> None:
        """Count one call of the model."""
        self._rows.observe(number)

    def text(self) -> bytes:
        """Return all series in the text format."""
        return generate_latest(self._registry)
