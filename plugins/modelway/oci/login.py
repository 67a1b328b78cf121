"""Logs in to a registry: the Basic and Bearer challenges of the distribution specification's token flow."""

import base64
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from modelway.errors import RegistryError

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryLogin:
    """What is sent as ``Authorization``, learned from the registry's challenges."""

    def __init__(self, *, http: httpx.Client, host: str, base: str, username: str | None, password: str | None) -> None:
        """Send nothing until the registry requires it.

        :param base: the registry's address, ``https://…``
        """
        self._http, self._host, self._base = http, host, base
        self._basic: str | None = None
        if username and password is not None:
            self._basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self._by_scope: dict[tuple[str, ...], str] = {}

    def scope(self, repository: str, *, push: bool, also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the token scopes of one request: one repository to pull from or push to, and others to pull from."""
        own = f"repository:{repository}:{'pull,push' if push else 'pull'}"
        return (own, *(f"repository:{other}:pull" for other in also))

    def header(self, scope: tuple[str, ...]) -> dict[str, str]:
        """Return the header for a request of that scope; empty until a challenge was answered."""
        known = self._by_scope.get(scope)
        return {"Authorization": known} if known else {}

    def answer(self, challenges: Sequence[str], *, scope: tuple[str, ...]) -> None:
        """Answer the challenges of a 401; where none can be answered, the next 401 stands.

        :raises RegistryError: the token server does not answer
        """
        for challenge in challenges:
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "bearer":
                self._forget(scope)
                token = self._token(dict(_PARAMETER.findall(rest)), scope)
                if token:
                    self._by_scope[scope] = f"Bearer {token}"
                return
            if kind.lower() == "basic" and self._basic:
                self._by_scope[scope] = self._basic
                return

    def _forget(self, scope: tuple[str, ...]) -> None:
        self._by_scope.pop(scope, None)

    def _token(self, parameters: dict[str, str], scope: tuple[str, ...]) -> str | None:
        realm = parameters.get("realm", "")
        # A login is not sent in the clear because a challenge says so.
        if urlsplit(realm).scheme != "https" and urlsplit(self._base).scheme == "https":
            return None
        query: dict[str, str | list[str]] = {"scope": list(scope)}
        if "service" in parameters:
            query["service"] = parameters["service"]
        headers = {"Authorization": self._basic} if self._basic else {}
        answer = self._http.get(realm, params=query, headers=headers)
        if answer.status_code >= 500:
            raise RegistryError(
                f"its token server answers {answer.status_code}",
                where=self._host,
                do="Wait until it runs, then try again",
            )
        if answer.status_code != httpx.codes.OK:
            return None
        try:
            document = answer.json()
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError):
            return None
