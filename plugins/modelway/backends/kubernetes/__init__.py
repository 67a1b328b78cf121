"""Backend ``kubernetes``: jobs as Kubernetes Jobs."""
