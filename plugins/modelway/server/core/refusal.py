"""The errors with which the server refuses: a request, or to start."""

import sys
import traceback

#: statuses after which the rest of the body is not read, so that the connection cannot be used again
_BODY_UNREAD = (408, 413, 415, 429)


class Refusal(Exception):
    """A request that is answered with an error status and one sentence."""

    def __init__(self, status: int, text: str) -> None:
        """Set the HTTP ``status`` (4xx or 5xx) and the sentence for the client."""
        super().__init__(text)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the answer needs besides its text."""
        headers = {"connection": "close"} if self.status in _BODY_UNREAD else {}
        if self.status == 429:
            headers["retry-after"] = "1"
        return headers


def refusal_of(error: Exception) -> Refusal:
    """Return why a request failed: 500 for what was not foreseen, which is logged."""
    if isinstance(error, Refusal):
        return error
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    return Refusal(500, "the server failed, see its log")


class CannotServe(Exception):
    """A model folder or setting that the server cannot start with; the text is one line."""
