"""The credentials of a connection: found, refreshed before they end, and given as headers of requests.

Everything here may block: it reads files and asks for tokens. The triggerer does it in threads.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from modelway.errors import CapabilityMissing, ModelwayError
from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.errors import CredentialsRefused, one_line
from modelway.platforms.google.sources import find_credentials, identity_credentials
from modelway.platforms.google.transport import Transport

#: what no machine's clock should differ from Google's by
_SKEW_SECONDS = 60


class GoogleCredentials:
    """Tokens of one connection, for all threads of a process; found at the first call."""

    def __init__(self, connection: GoogleConnection) -> None:
        """Read nothing yet."""
        self._connection = connection
        self._lock = threading.Lock()
        self._transport = Transport()
        self._found: Any = None
        self._project = connection.project
        self._of_audiences: dict[str, Any] = {}
        self.are_refused = False
        """Whether they were at the last call, and not only for now."""

    def close(self) -> None:
        """Close the connections that fetch tokens."""
        self._transport.close()

    def project(self) -> str:
        """Return the connection's project, else that of its credentials; empty where neither names one.

        :raises CredentialsRefused: there are none
        """
        if not self._project and self._connection.source is not Source.ANONYMOUS:
            with self._using():
                self._find()
        return self._project

    def _fresh_headers(self) -> dict[str, str] | None:
        """Return the headers without waiting; None where a token must be fetched first."""
        if self._connection.source is Source.ANONYMOUS:
            return self._with_quota({})
        found = self._found
        # Read once: another thread may drop it meanwhile.
        token = found.token if found is not None and _is_fresh(found) else None
        return self._headers(found, token) if token else None

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request, with a new token where the last one ends soon.

        :raises CredentialsRefused: there are no credentials, or they are not accepted
        """
        if (known := self._fresh_headers()) is not None:
            return known
        with self._using():
            found = self._find()
            if not _is_fresh(found):
                self._refresh(found)
            return self._headers(found, found.token)

    def refused(self, headers: Mapping[str, str]) -> None:
        """Fetch a new token at the next call: an API refused these headers, however long they should be good for."""
        # Without the lock, which a thread may have that fetches a token.
        found = self._found
        if found is not None and headers.get("Authorization") == f"Bearer {found.token}":
            found.token = None

    def identity(self, audience: str) -> dict[str, str]:
        """Return the headers that authorise a request to a service that checks who calls, such as one of Cloud Run.

        :param audience: the URL of the service
        :raises CredentialsRefused: these credentials have no identity of a service account
        """
        if self._connection.source is Source.ANONYMOUS:
            return {}
        with self._using():
            if audience not in self._of_audiences:
                found = self._find()
                with self._translated("used to say who calls"):
                    self._of_audiences[audience] = identity_credentials(
                        found, audience, transport=self._transport, connection=self._connection
                    )
            token = self._of_audiences[audience]
            if not _is_fresh(token):
                self._refresh(token)
            return {"Authorization": f"Bearer {token.token}"}

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Let one thread use what was found; forget it where it is refused: a file or a secret may have a new key."""
        with self._lock:
            try:
                yield
            except CredentialsRefused as error:
                if not error.retryable:
                    self._found, self.are_refused = None, True
                    self._of_audiences.clear()
                raise
            self.are_refused = False

    def _find(self) -> Any:
        if self._found is None:
            _check_installed()
            with self._translated("found"):
                found, project = find_credentials(self._connection, self._transport)
            self._found, self._project = found, self._project or project
        return self._found

    def _refresh(self, found: Any) -> None:
        from google.auth.credentials import TokenState

        try:
            with self._translated("refreshed"):
                found.refresh(self._transport)
        except CredentialsRefused as error:
            # The last token is still good for some minutes, and the next call tries again.
            if found.token_state is TokenState.INVALID or not error.retryable:
                raise

    def _headers(self, found: Any, token: str) -> dict[str, str]:
        headers: dict[str, str] = {"Authorization": f"Bearer {token}"}
        if own := getattr(found, "quota_project_id", None):
            headers["x-goog-user-project"] = own
        return self._with_quota(headers)

    def _with_quota(self, headers: dict[str, str]) -> dict[str, str]:
        if self._connection.quota_project:
            headers["x-goog-user-project"] = self._connection.quota_project
        return headers

    def _translated(self, what: str) -> "_Translated":
        return _Translated(self._connection, self._transport, what)


class _Translated:
    """Translates the errors of google-auth; none of their messages repeats a key."""

    def __init__(self, connection: GoogleConnection, transport: Transport, what: str) -> None:
        self._connection, self._transport, self._what = connection, transport, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ModelwayError):
            return
        from google.auth.exceptions import GoogleAuthError

        if not isinstance(error, GoogleAuthError | ValueError | OSError | KeyError):
            return
        text = one_line(_text(error))
        skew = self._transport.skew_seconds
        where = self._connection.where
        if abs(skew) > _SKEW_SECONDS:
            raise CredentialsRefused(
                f"no token for {where}: this machine's clock is {abs(skew):.0f} s "
                f"{'behind' if skew > 0 else 'ahead of'} Google's ({text.rstrip('.')})",
                status=401,
                code="UNAUTHENTICATED",
                reason="CLOCK_SKEW",
                retryable=True,
                do="Set the machine's clock, best by NTP; nothing has to be made anew",
            ) from None
        retryable = bool(getattr(error, "retryable", False))
        raise CredentialsRefused(
            f"the credentials of {where} cannot be {self._what}: {text.rstrip('.')}",
            status=0 if retryable else 401,
            code="UNAUTHENTICATED",
            reason="CREDENTIALS",
            retryable=retryable,
            do=self._advice(text),
        ) from None

    def _advice(self, text: str) -> str:
        if "impersonated" in text:
            chain = self._connection.impersonation
            return (
                "Grant roles/iam.serviceAccountTokenCreator on each account of the impersonation_chain "
                f"({', '.join(chain)}) to the one before it, and enable iamcredentials.googleapis.com"
            )
        return _ADVICE[self._connection.source]


def _text(error: BaseException) -> str:
    """Return what google-auth says, and of a refusal besides what the API said."""
    said, answer = (*map(str, error.args[:2]), "", "")[:2]
    try:
        document = json.loads(answer)
        message = str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return said or type(error).__name__
    return f"{said}: {message}"


_ADVICE = {
    Source.ANONYMOUS: "Use another source",
    Source.KEY_PATH: "Check that the file is on this machine and is the JSON key of an account that is enabled; "
    "make a new key where it was deleted",
    Source.KEY_SECRET: "Check the secret's name and project, and that the machine's own account may read it "
    "(roles/secretmanager.secretAccessor)",
    Source.KEY: "Paste the JSON key of a service account that is enabled; make a new key where it was deleted",
    Source.IDENTITY_PROVIDER: "Check idp_issuer_url, client_id and client_secret, and the provider of the pool",
    Source.CONFIGURATION: "Check the configuration of workload identity federation and the token it is made of",
    Source.ENVIRONMENT: "Set GOOGLE_APPLICATION_CREDENTIALS, run on a machine that has a service account, or make "
    "the Airflow connection modelway_google (docs/google.md)",
}


def _check_installed() -> None:
    try:
        import google.auth  # noqa: F401
    except ImportError as error:
        raise CapabilityMissing("google-auth is not installed here", do="Install modelway[google]") from error


def _is_fresh(found: Any) -> bool:
    from google.auth.credentials import TokenState

    return found.token_state is TokenState.FRESH
