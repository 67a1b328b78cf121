"""What is read from the lineage."""
