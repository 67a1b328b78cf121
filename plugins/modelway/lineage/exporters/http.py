"""HTTP requests of an exporter, with a deadline: a failed one was rejected, or the system is unavailable."""

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from modelway.errors import ExporterUnavailable, ExportRefused
from modelway.lineage.exporters.base import Destination

CONNECT_SECONDS = 3.0
#: read timeout: a server that had just started took 5 s for its first search on a busy machine
SILENCE_SECONDS = 30.0
#: longer answers are rejected
_LONGEST = 64 * 2**20
#: as shown in a message
_SHOWN = 500
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Http:
    """JSON over HTTP with one destination."""

    def __init__(self, destination: Destination, *, what: str) -> None:
        """Open no connection yet.

        :param what: what the other side is, for messages
        """
        import httpx

        self.until = time.monotonic()
        self._destination, self._what = destination, what
        self._base = destination.url.rstrip("/")
        try:
            host = urlsplit(self._base).hostname or ""
        except ValueError:
            host = ""
        # A proxy from the environment is not used for this machine itself.
        self._client = httpx.Client(
            trust_env=host not in _LOOPBACK, headers=_token(destination), auth=_basic(destination)
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        answers: frozenset[str] = frozenset(),
        is_json: bool = True,
    ) -> dict[str, Any]:
        """Send one request and return the answer's JSON object, an empty one where it has none.

        :param answers: values of ``error_code`` that are answers too
        :param is_json: whether an answer in another form comes from something else, such as a login page
        :raises ExporterUnavailable: no answer in time, or one that is not about what was sent
        :raises ExportRefused: it rejects what was sent
        """
        status, data = self._exchange(method, path, params=params, body=body)
        found = _object(data)
        code = str(found.get("error_code", "")) if found else ""
        if status < 300:
            if is_json and found is None:
                raise self._unavailable("answers something else than JSON")
            return found or {}
        if code in answers:
            return found or {}
        why = f"answers {status}{self._message(found, data)}"
        # Where nothing is found under the address, or it leads elsewhere, the address is wrong and not what was sent.
        if status < 400 or status >= 500 or status in (401, 403, 405, 407, 408, 429) or (status == 404 and not code):
            raise self._unavailable(why)
        raise ExportRefused(f"{self._what} refuses it: it {why}", where=self._base)

    def _exchange(self, method: str, path: str, *, params: Any, body: Any) -> tuple[int, bytes]:
        import httpx

        try:
            request = self._client.build_request(
                method, f"{self._base}/{path}", params=params, json=body, timeout=self._timeout()
            )
            answer = self._client.send(request, stream=True)
            try:
                data = b""
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > _LONGEST:
                        raise self._unavailable("answers without end")
                    self._left()
                return answer.status_code, data
            finally:
                answer.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(f"does not answer ({str(error) or type(error).__name__})") from error

    def _timeout(self) -> Any:
        import httpx

        left = self._left()
        return httpx.Timeout(min(left, SILENCE_SECONDS), connect=min(left, CONNECT_SECONDS))

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise self._unavailable("takes too long")
        return left

    def _unavailable(self, why: str) -> ExporterUnavailable:
        return ExporterUnavailable(f"{self._what} {self._without_password(why)}", where=self._base)

    def _message(self, found: Mapping[str, Any] | None, data: bytes) -> str:
        text = str((found or {}).get("message") or data[:_SHOWN].decode("utf-8", "replace"))
        text = " ".join(text.split())[:_SHOWN]
        return f": {self._without_password(text)}" if text else ""

    def _without_password(self, text: str) -> str:
        """Mask the password: some servers repeat what they received."""
        secret = self._destination.password
        return text.replace(secret, "***") if secret else text


def _token(destination: Destination) -> dict[str, str]:
    if destination.password and not destination.login:
        return {"Authorization": f"Bearer {destination.password}"}
    return {}


def _basic(destination: Destination) -> tuple[str, str] | None:
    return (destination.login, destination.password or "") if destination.login else None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
