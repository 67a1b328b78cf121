"""Our figures go where Airflow's configuration says: to a receiver of OpenTelemetry, from a process like a task's."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

TASK = """
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from modelway.following import metrics

stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
metrics.count("monitor.rows", 17, model="digits", version=3)
metrics.gauge("monitor.drift", 1.25, model="digits", version=3)
metrics.timing("job.duration", 2.5, model="digits", stage="train")
"""


class Receiver(BaseHTTPRequestHandler):
    """Receives metrics by OTLP over HTTP."""

    points: dict[str, tuple[float, dict[str, str]]]

    def do_POST(self) -> None:
        assert self.path == "/v1/metrics"
        request = ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    (point,) = getattr(metric, metric.WhichOneof("data")).data_points
                    tags = {each.key: each.value.string_value for each in point.attributes}
                    histogram = metric.WhichOneof("data") == "exponential_histogram"
                    value = point.sum if histogram else point.as_double or point.as_int
                    self.points[metric.name] = (value, tags)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_figures_with_their_tags_reach_a_receiver_of_opentelemetry() -> None:
    handler = type("Handler", (Receiver,), {"points": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {"OTEL_ON": "True", "OTEL_HOST": "127.0.0.1", "OTEL_PORT": str(server.server_port)}
        environment = {**os.environ, **{f"AIRFLOW__METRICS__{name}": value for name, value in settings.items()}}
        done = subprocess.run([sys.executable, "-c", TASK], env=environment, capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    about = {"model": "digits", "version": "3"}
    assert handler.points["airflow.modelway.monitor.rows"] == (17, about)
    assert handler.points["airflow.modelway.monitor.drift"] == (1.25, about)
    value, tags = handler.points["airflow.modelway.job.duration"]
    assert (value, tags) == (2500, {"model": "digits", "stage": "train"})
