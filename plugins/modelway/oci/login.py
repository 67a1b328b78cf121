"""Logs in to a registry: the Basic and Bearer challenges of the distribution specification's token flow."""

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpx

from modelway.errors import RegistryError
from modelway.oci.credentials import Credentials

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
#: a token of which nothing else is said is valid for so long
_DEFAULT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class _Authorization:
    """A value of the header, and until when it is sent, on the clock of ``time.monotonic``."""

    value: str
    until: float = float("inf")


class RegistryLogin:
    """What is sent as ``Authorization``, learned from the registry's challenges; several threads may use it.

    A token is renewed when it is about to expire, and when the registry refuses it.
    """

    def __init__(
        self, *, http: httpx.Client, host: str, base: str, credentials: Callable[[], Credentials | None]
    ) -> None:
        """Send nothing until the registry requires it.

        :param base: the registry's address, ``https://…``
        :param credentials: finds the login; called at the first challenge
        """
        self._http, self._host, self._base, self._find = http, host, base, credentials
        self._by_scope: dict[tuple[str, ...], _Authorization] = {}
        self._challenge: dict[str, str] | None = None
        self._lock = threading.Lock()

    @cached_property
    def _credentials(self) -> Credentials | None:
        return self._find()

    def scope(self, repository: str, *, push: bool, also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the token scopes of one request: one repository to pull from or push to, and others to pull from."""
        own = f"repository:{repository}:{'pull,push' if push else 'pull'}"
        return (own, *(f"repository:{other}:pull" for other in also))

    def header(self, scope: tuple[str, ...]) -> dict[str, str]:
        """Return the header for a request of that scope; empty until a challenge was answered.

        :raises RegistryError: a token is about to expire and the token server does not answer
        """
        with self._lock:
            known = self._by_scope.get(scope)
            if known is not None and known.until < time.monotonic() and self._challenge is not None:
                known = self._renew(scope)
            return {"Authorization": known.value} if known else {}

    def answer(self, challenges: Sequence[str], *, scope: tuple[str, ...], sent: str | None) -> None:
        """Answer the challenges of a 401; where none can be answered, the next 401 stands.

        :param sent: the header that was refused
        :raises RegistryError: the token server does not answer
        """
        with self._lock:
            known = self._by_scope.get(scope)
            if known is not None and known.value != sent:
                # Another thread was refused as well and has answered already.
                return
            for challenge in challenges:
                kind, _, rest = challenge.partition(" ")
                if kind.lower() == "bearer":
                    self._challenge = dict(_PARAMETER.findall(rest))
                    self._renew(scope)
                    return
                if kind.lower() == "basic" and (basic := self._basic()):
                    self._by_scope[scope] = _Authorization(value=basic)
                    return

    def _renew(self, scope: tuple[str, ...]) -> _Authorization | None:
        self._by_scope.pop(scope, None)
        if token := self._token(self._challenge or {}, scope):
            self._by_scope[scope] = token
        return token

    def _basic(self) -> str | None:
        known = self._credentials
        if known is None or not known.username:
            return None
        return "Basic " + base64.b64encode(f"{known.username}:{known.password}".encode()).decode()

    def _token(self, parameters: Mapping[str, str], scope: tuple[str, ...]) -> _Authorization | None:
        realm = parameters.get("realm", "")
        # A login is not sent in the clear because a challenge says so.
        if urlsplit(realm).scheme != "https" and urlsplit(self._base).scheme == "https":
            return None
        began = time.monotonic()
        answer = self._exchange(realm, parameters.get("service"), scope)
        if answer.status_code >= 500:
            raise RegistryError(
                f"its token server answers {answer.status_code}",
                where=self._host,
                do="Wait until it runs, then try again",
            )
        if answer.status_code != httpx.codes.OK:
            return None
        try:
            document: dict[str, Any] = answer.json()
            value = str(document.get("token") or document["access_token"])
            seconds = float(document.get("expires_in") or _DEFAULT_SECONDS)
        except (ValueError, KeyError, AttributeError, TypeError):
            return None
        # A tenth before its end, so that a request that begins now is still let in.
        return _Authorization(value=f"Bearer {value}", until=began + seconds * 0.9)

    def _exchange(self, realm: str, service: str | None, scope: tuple[str, ...]) -> httpx.Response:
        """Ask the token server: with an identity token as OAuth 2 does, else with the login, or without any."""
        known = self._credentials
        if known is not None and known.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "scope": " ".join(scope)}
            return self._http.post(realm, data={**form, "service": service or self._host, "client_id": "modelway"})
        query: dict[str, str | list[str]] = {"scope": list(scope), **({"service": service} if service else {})}
        basic = self._basic()
        return self._http.get(realm, params=query, headers={"Authorization": basic} if basic else {})
