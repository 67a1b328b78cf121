"""The description of the exporter ``mlflow``."""

from modelway.lineage.exporters.base import Destination, Exporter, ExporterMember


def _open(destination: Destination) -> Exporter:
    from modelway.lineage.exporters.mlflow.exporter import MlflowExporter

    return MlflowExporter(destination)


MEMBER = ExporterMember(
    name="mlflow",
    open=_open,
    capabilities=frozenset({"version-registered", "alias-set", "image-built", "weight-set"}),
)
