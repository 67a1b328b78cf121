"""Exporter ``mlflow``: versions in an MLflow tracking server and its registry."""
