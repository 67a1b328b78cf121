"""What is written into the lineage."""
