"""Endpoint ``vertex``: an endpoint of Vertex AI, with a deployed model per predictor and a split in per cents."""
