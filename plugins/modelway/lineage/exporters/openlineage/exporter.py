"""OpenLineage: a run of a model's training as events, sent to any server that accepts them, such as Marquez."""

from modelway.lineage.exporters.base import Destination, Fact
from modelway.lineage.exporters.http import Http
from modelway.lineage.exporters.openlineage.candidate import candidate_event
from modelway.lineage.exporters.openlineage.event import run_event, version_event

#: what happens to a version after its run, and to a candidate within it; the other kinds are about runs
_EVENTS = {"image-built": version_event, "weight-set": version_event, "candidate-ended": candidate_event}

ENDPOINT = "api/v1/lineage"
NAMESPACE = "modelway"


class OpenLineageExporter:
    """Sends to one server.

    The destination's options are ``endpoint``, the path that events are posted to, and ``namespace``, that of our jobs.
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
        event = _EVENTS.get(fact.kind, run_event)
        body = event(fact, namespace=self._namespace)
        self._http.request("POST", self._endpoint.lstrip("/"), body=body, is_json=False)
