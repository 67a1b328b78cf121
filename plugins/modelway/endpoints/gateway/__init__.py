"""HAProxy as the gateway of an endpoint."""
