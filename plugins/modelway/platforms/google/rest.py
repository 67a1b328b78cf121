"""Calls of Google's APIs over REST on plain data; the triggerer makes them in threads."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.credentials import GoogleCredentials
from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.exchange import Call, Document, Retries, error_of_exception, read
from modelway.platforms.google.transport import clock_ahead, trusted

_log = logging.getLogger(__name__)
#: items of a page of any list
PAGE = 200
_EXACT_SECONDS = 2.0


class GoogleApi:
    """The calls of one connection; for several threads."""

    def __init__(
        self,
        connection: GoogleConnection,
        *,
        credentials: GoogleCredentials | None = None,
        retries: Retries | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        """Open no connection yet.

        :param credentials: those of the connection, where another part of the process has them already
        :param timeout_seconds: of one attempt
        """
        self.connection = connection
        self.credentials = credentials or GoogleCredentials(connection)
        self._retries = retries or Retries()
        self._ahead_seconds = 0.0
        self._http = httpx.Client(timeout=httpx.Timeout(timeout_seconds, connect=10), verify=trusted())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self.credentials.close()

    def __enter__(self) -> "GoogleApi":
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def call(self, call: Call) -> Document:
        """Send a call, again after what may pass.

        :raises LostAnswer: it was not answered and may have happened
        :raises GoogleError: it was refused
        """
        number = 0
        while True:
            headers = self.credentials.headers()
            outcome = self._outcome(call, self._send(call, headers), headers)
            if not isinstance(outcome, GoogleError):
                return outcome
            time.sleep(self._pause(call, number, outcome))
            number += 1

    def get(self, service: str, path: str, *, params: Mapping[str, Any] | None = None) -> Document:
        """Return a resource.

        :param service: a key of ``ENDPOINTS``
        :param path: after the API's version, such as ``projects/p/locations/r/customJobs/7``
        :raises GoogleError: it was refused, or not answered after several attempts
        """
        return self.call(Call(method="GET", service=service, path=path, params=params or {}))

    def post(
        self,
        service: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Document:
        """Create a resource, or call a method of one.

        :param idempotent: whether doing it twice is the same as once, so that an attempt without an answer is repeated
        :raises LostAnswer: it was not answered and may have happened; only where it is not idempotent
        :raises GoogleError: it was refused
        """
        return self.call(
            Call(method="POST", service=service, path=path, params=params or {}, body=body or {}, idempotent=idempotent)
        )

    def patch(
        self,
        service: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any],
        idempotent: bool = False,
    ) -> Document:
        """Change a resource; see ``post``. With an etag it is not idempotent: the first attempt changes the etag."""
        return self.call(
            Call(method="PATCH", service=service, path=path, params=params or {}, body=body, idempotent=idempotent)
        )

    def delete(self, service: str, path: str, *, params: Mapping[str, Any] | None = None) -> Document:
        """Delete a resource; an attempt that was not answered is repeated, so a 404 may be of the first one."""
        return self.call(Call(method="DELETE", service=service, path=path, params=params or {}, idempotent=True))

    def _outcome(
        self, call: Call, answer: httpx.Response | httpx.HTTPError, headers: Mapping[str, str]
    ) -> Document | GoogleError:
        """Return the document of an answer, or the error of a failure."""
        if isinstance(answer, httpx.HTTPError):
            return error_of_exception(call, answer)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self.credentials.refused(headers)
        return read(call, answer, where=self.connection.where)

    def _pause(self, call: Call, number: int, error: GoogleError) -> float:
        """Return the seconds before the next attempt.

        :raises GoogleError: the error itself, where there is none
        """
        if error.status == httpx.codes.UNAUTHORIZED and number == 0 and self.connection.source is not Source.ANONYMOUS:
            # Nothing was done, and the next attempt has a new token.
            return 0.0
        seconds = self._retries.pause(number, error)
        _log.warning("%s Trying again in %.1f s.", error, seconds)
        return seconds

    def pages(
        self, service: str, path: str, items: str, *, params: Mapping[str, Any] | None = None
    ) -> Iterator[Document]:
        """Return the items of all pages of a list.

        :param items: the field of the answer that has them, such as ``customJobs``
        """
        token = ""
        while True:
            answer = self.get(service, path, params={"pageSize": PAGE, **(params or {}), "pageToken": token or None})
            yield from answer.get(items) or ()
            token = answer.get("nextPageToken") or ""
            if not token:
                return

    def _send(self, call: Call, headers: Mapping[str, str]) -> httpx.Response | httpx.HTTPError:
        try:
            answer = self._http.request(**call.request(self.connection, headers))
        except httpx.HTTPError as error:
            return error
        self._ahead_seconds = clock_ahead(answer.headers.get("Date"))
        return answer

    def now(self) -> float:
        """Return the time by Google's clock, in seconds since the epoch: that of this machine may be wrong.

        It may be a second late, and is never early: an answer says whole seconds.
        """
        return time.time() + (self._ahead_seconds + 1.0 if abs(self._ahead_seconds) > _EXACT_SECONDS else 0.0)
