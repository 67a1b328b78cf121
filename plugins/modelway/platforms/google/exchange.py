"""One call of an API: its request, what its answer or its failure means, and whether another attempt may follow."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from modelway.oci.retries import retry_after
from modelway.platforms.google.connection import GoogleConnection
from modelway.platforms.google.errors import GoogleError, LostAnswer, error_of_answer

Document = dict[str, Any]

_REGION = re.compile(r"(?:^|/)locations/([a-z0-9-]+)")
_PROJECT = re.compile(r"(?:^|/)projects/([^/:]+)")
#: nothing was sent
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
#: an answer that may come although the call was done
_AMBIGUOUS = (408, 500, 502, 503, 504)
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call as data."""

    method: str
    service: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    idempotent: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether an attempt without an answer may be followed by another."""
        return self.idempotent or self.method == "GET"

    @property
    def project(self) -> str:
        """The project that the path names."""
        found = _PROJECT.search(self.path)
        return found[1] if found else ""

    def __str__(self) -> str:
        """Say what is called; neither query nor body."""
        return f"{self.method} {self.service} {self.path}"

    def request(self, connection: GoogleConnection, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of httpx."""
        region = _REGION.search(self.path)
        base = connection.base(self.service, region[1] if region else "")
        params = {name: _text(value) for name, value in self.params.items() if value is not None}
        return {
            "method": self.method,
            "url": f"{base}/{self.path.lstrip('/')}",
            "params": params,
            "json": self.body,
            "headers": dict(headers),
        }


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else value


def read(call: Call, answer: httpx.Response, *, where: str) -> Document | GoogleError:
    """Return the document of an answer, or the error of a refusal.

    :param where: what the credentials are of
    """
    try:
        document = answer.json() if answer.content else {}
    except ValueError:
        document = None
    if not answer.is_success:
        error = error_of_answer(answer.status_code, document, call=str(call), project=call.project, where=where)
        error.pause_seconds = retry_after(answer.headers.get("Retry-After"))
        if answer.status_code in _AMBIGUOUS and not call.may_repeat:
            return _lost(call, error.what, status=error.status, code=error.code, reason=error.reason)
        return error
    if not isinstance(document, dict):
        return _unread(call, "the answer is cut off or no JSON")
    return document


def error_of_exception(call: Call, error: httpx.HTTPError) -> GoogleError:
    """Return the error of an attempt without a whole answer."""
    if isinstance(error, _NOT_SENT):
        do = "Check the network and the proxy of this machine"
        return GoogleError(f"{call} could not be sent ({_cause(error)})", retryable=True, do=do)
    return _unread(call, f"the answer did not arrive ({_cause(error)})")


def _unread(call: Call, what: str) -> GoogleError:
    if call.may_repeat:
        return GoogleError(f"{call}: {what}", retryable=True, do="Try again")
    return _lost(call, f"{call}: {what}")


def _lost(call: Call, what: str, **more: Any) -> LostAnswer:
    return LostAnswer(what, do="Check whether it happened, then call again", **more)


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a call is attempted, and with which pauses.

    :param pause_seconds: before the second attempt; doubled before each further one, and shortened at random so that
        many callers do not come back at once
    """

    attempts: int = 5
    pause_seconds: float = 0.5

    def pause(self, number: int, error: GoogleError) -> float:
        """Return the seconds before the next attempt.

        :param number: of the attempt that failed, from 0
        :raises GoogleError: ``error`` itself, if it was the last attempt or another one cannot help
        """
        if not error.retryable or isinstance(error, LostAnswer) or number + 1 >= self.attempts:
            raise error
        seconds = self.pause_seconds * 2.0**number * random.uniform(0.5, 1)
        seconds = max(seconds, error.pause_seconds)
        if seconds > LONGEST_PAUSE_SECONDS:
            raise error
        return seconds
