"""What goes into the lineage and comes out of it: frozen dataclasses, standard library only."""
