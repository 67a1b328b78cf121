"""Kubernetes' API: calls, watches, patches, labels."""
