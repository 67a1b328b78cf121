"""Exporter ``openlineage``: runs as events of OpenLineage."""
