"""OpenLineage: a run of a model's training as events, sent to any server that takes them, such as Marquez."""

from modelway.lineage.exporters.base import Destination, Fact
from modelway.lineage.exporters.http import Http
from modelway.lineage.exporters.openlineage.event import run_event

ENDPOINT = "api/v1/lineage"
NAMESPACE = "modelway"


class OpenLineageExporter:
    """Sends to one server.

    The destination's options are ``endpoint``, the path that takes events, and ``namespace``, that of our jobs.
    """

    def __init__(self, destination: Destination) -> None:
        self._http = Http(destination, what="the OpenLineage server")
        self._endpoint = destination.options.get("endpoint") or ENDPOINT
        self._namespace = destination.options.get("namespace") or NAMESPACE

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def export(self, fact: Fact, *, until: float) -> None:
        """Send the event of a fact; see ``Exporter.export``."""
        self._http.until = until
        self._http.ask(
            "POST", self._endpoint.lstrip("/"), body=run_event(fact, namespace=self._namespace), is_json=False
        )
