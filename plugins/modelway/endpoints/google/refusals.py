"""Refusals of Google Cloud as the port's errors."""

from modelway.errors import EndpointNotReady, ModelwayError
from modelway.platforms.google.errors import GoogleError


def translated(error: GoogleError, name: str) -> ModelwayError:
    """Return a refusal as the port's error, or as it is where another attempt may help."""
    if error.retryable or error.status != 400:
        return error
    found = EndpointNotReady(error.what, where=f"endpoint {name}", do=error.do)
    found.retryable = False
    return found
