"""Endpoint ``cloud_run``: a service of Google Cloud Run, with one revision per predictor and a split in per cents."""
