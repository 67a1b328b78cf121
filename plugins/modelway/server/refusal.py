"""What the server says no with: to a request, or at its start."""


class Refusal(Exception):
    """A request that is answered with an error status and one sentence."""

    def __init__(self, status: int, text: str) -> None:
        """Keep the HTTP ``status`` (4xx or 5xx) and the sentence for the client."""
        super().__init__(text)
        self.status = status


class CannotServe(Exception):
    """A model folder or setting that the server cannot start with; the text is one line."""
