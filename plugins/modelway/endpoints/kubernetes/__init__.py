"""Endpoint ``kubernetes``: Deployments behind a gateway, a route of the Gateway API or Istio, or a controller's engine."""
