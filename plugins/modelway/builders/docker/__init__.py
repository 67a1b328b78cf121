"""Builder ``docker``: the base of an image is built from a Dockerfile by a Docker engine."""
