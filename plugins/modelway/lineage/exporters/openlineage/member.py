"""The description of the exporter ``openlineage``."""

from modelway.lineage.exporters.base import Destination, Exporter, ExporterMember


def _open(destination: Destination) -> Exporter:
    from modelway.lineage.exporters.openlineage.exporter import OpenLineageExporter

    return OpenLineageExporter(destination)


MEMBER = ExporterMember(
    name="openlineage",
    open=_open,
    capabilities=frozenset(
        {
            *("run-started", "run-failed", "version-registered", "version-reused", "candidate-ended"),
            *("image-built", "weight-set"),
        }
    ),
)
