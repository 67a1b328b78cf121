"""How google-auth fetches tokens: over httpx, which imports in half the time of what it would use itself."""

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """An answer as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@cache
def trusted() -> ssl.SSLContext:
    """Return the authorities that are trusted, read once per process: that takes longer than a call."""
    return httpx.create_ssl_context()


class Transport:
    """google-auth's ``Request``; it also learns how far this machine's clock is from the server's."""

    def __init__(self) -> None:
        """Open no connection yet."""
        self._http: httpx.Client | None = None
        self._lock = threading.Lock()
        self.skew_seconds = 0.0
        """How far Google's clock is before this machine's, by the last answer."""

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        """Send a request.

        :raises google.auth.exceptions.TransportError: there was no answer
        """
        from google.auth.exceptions import TransportError

        with self._lock:
            if self._http is None:
                self._http = httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=True, verify=trusted())
        try:
            answer = self._http.request(
                method, url, content=body, headers=dict(headers or {}), timeout=timeout or _TIMEOUT_SECONDS
            )
        except httpx.HTTPError as error:
            message = f"{httpx.URL(url).host} does not answer ({type(error).__name__})"
            raise TransportError(message, retryable=True) from error
        self.skew_seconds = clock_ahead(answer.headers.get("Date"))
        return Answer(status=answer.status_code, headers=answer.headers, data=answer.content)


def clock_ahead(date: str | None) -> float:
    """Return how many seconds a server's clock is before this machine's, by the header ``Date`` of its answer."""
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except (ValueError, TypeError):
        return 0.0
