"""Endpoint ``kubernetes``: Deployments behind a gateway, an HTTPRoute, or a controller's engine."""
