"""Who else is told the facts of the lineage: one file for each system."""
