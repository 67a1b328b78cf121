"""Charts as SVG within a page."""
