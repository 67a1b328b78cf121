"""The Docker engine's API."""
