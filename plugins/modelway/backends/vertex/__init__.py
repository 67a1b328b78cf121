"""Backend ``vertex``: jobs as custom jobs of Google's Vertex AI."""
