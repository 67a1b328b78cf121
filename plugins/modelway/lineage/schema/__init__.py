"""The tables of the lineage, their migrations and the connections to them."""
