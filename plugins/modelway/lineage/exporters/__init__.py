"""Exporters that send the facts of the lineage to other systems: one package for each system."""
