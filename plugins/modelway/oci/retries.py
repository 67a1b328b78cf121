"""Attempts of one exchange with a registry: again after what may pass, and never sooner than the registry says."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from modelway.errors import RegistryError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
#: a registry that wants a longer pause gets the next attempt of the whole task
LONGEST_PAUSE_SECONDS = 120.0


class RegistryBusy(RegistryError):
    """An answer that says when the next attempt may come."""

    def __init__(self, what: str, *, pause_seconds: float, **more: Any) -> None:
        """Compose the message; see ``ModelwayError``."""
        super().__init__(what, **more)
        self.pause_seconds = pause_seconds


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often an exchange is attempted, and with which pauses.

    :param pause_seconds: before the second attempt; doubled before each further one
    """

    attempts: int = 4
    pause_seconds: float = 0.25

    def pause(self, number: int, error: RegistryError) -> None:
        """Wait before the next attempt.

        :param number: of the attempt that failed, from 0
        :raises RegistryError: ``error`` itself, if it was the last attempt or another one cannot help
        """
        seconds = self.pause_seconds * 2**number
        if isinstance(error, RegistryBusy):
            seconds = max(seconds, error.pause_seconds)
        if not error.retryable or number + 1 >= self.attempts or seconds > LONGEST_PAUSE_SECONDS:
            raise error
        _log.warning("%s Trying again in %g s.", error, seconds)
        time.sleep(seconds)

    def call(self, attempt: Callable[[], _T], *, stop: threading.Event | None = None) -> _T:
        """Return what ``attempt`` returns, calling it again after retryable errors.

        :param stop: when it is set, no further attempt is made
        """
        number = 0
        while True:
            try:
                return attempt()
            except RegistryError as error:
                if stop is not None and stop.is_set():
                    raise
                self.pause(number, error)
            number += 1


def retry_after(header: str | None) -> float:
    """Return the seconds that a ``Retry-After`` header names, as a number or a date; 0 where it names none."""
    text = (header or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
