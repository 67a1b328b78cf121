"""Backend ``docker``: jobs as containers of a Docker engine."""
