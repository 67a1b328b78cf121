"""The credentials of a connection: found, refreshed before they end, and given as headers of requests.

Everything here may block: it reads files and asks for tokens. The asynchronous calls do it in a thread.
"""

import base64
import json
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelway.errors import ModelwayError
from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.errors import CredentialsRefused, one_line
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

    def close(self) -> None:
        """Close the connections that fetch tokens."""
        self._transport.close()

    def project(self) -> str:
        """Return the connection's project, else that of its credentials; empty where neither names one.

        :raises CredentialsRefused: there are none
        """
        if not self._project and self._connection.source is not Source.ANONYMOUS:
            with self._lock:
                self._find()
        return self._project

    def fresh_headers(self) -> dict[str, str] | None:
        """Return the headers without waiting; None where a token must be fetched first."""
        if self._connection.source is Source.ANONYMOUS:
            return self._with_quota({})
        found = self._found
        return self._headers(found) if found is not None and _is_fresh(found) else None

    def headers(self) -> dict[str, str]:
        """Return the headers that authorise a request, with a new token where the last one ends soon.

        :raises CredentialsRefused: there are no credentials, or they are not accepted
        """
        if (known := self.fresh_headers()) is not None:
            return known
        with self._lock:
            found = self._find()
            if not _is_fresh(found):
                self._refresh(found)
            return self._headers(found)

    def refused(self, headers: Mapping[str, str]) -> None:
        """Fetch a new token at the next call: an API refused these headers, however long they should be good for."""
        with self._lock:
            if self._found is not None and self._headers(self._found) == headers:
                self._found.token = None

    def identity(self, audience: str) -> dict[str, str]:
        """Return the headers that authorise a request to a service that checks who calls, such as one of Cloud Run.

        :param audience: the URL of the service
        :raises CredentialsRefused: these credentials have no identity of a service account
        """
        if self._connection.source is Source.ANONYMOUS:
            return {}
        with self._lock:
            if audience not in self._of_audiences:
                self._of_audiences[audience] = _identity(self._find(), audience, self._transport, self._connection)
            token = self._of_audiences[audience]
            if not _is_fresh(token):
                self._refresh(token)
            return {"Authorization": f"Bearer {token.token}"}

    def _find(self) -> Any:
        if self._found is None:
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

    def _headers(self, found: Any) -> dict[str, str]:
        headers: dict[str, str] = {"Authorization": f"Bearer {found.token}"}
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
        text = one_line(str(error.args[0]) if error.args else type(error).__name__)
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
            do=_ADVICE[self._connection.source],
        ) from None


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


def find_credentials(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    """Return google-auth's credentials of a connection and their project, empty where they name none."""
    found, project = _FINDERS[connection.source](connection, transport)
    if connection.impersonation:
        found, project = _impersonated(found, connection)
    return found, project


def _is_fresh(found: Any) -> bool:
    from google.auth.credentials import TokenState

    return found.token_state is TokenState.FRESH


def _of_key_path(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    return _of_key(json.loads(Path(connection.key_path).read_text()), connection)


def _of_connection_key(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    return _of_key(connection.key or {}, connection)


def _of_key(key: Mapping[str, Any], connection: GoogleConnection) -> tuple[Any, str]:
    from google.oauth2 import service_account

    found = service_account.Credentials.from_service_account_info(dict(key), scopes=list(connection.scopes))
    return found, found.project_id or ""


def _of_secret(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    environment, project = _of_environment(connection, transport)
    environment.refresh(transport)
    name = connection.secret.strip("/")
    if not name.startswith("projects/"):
        if not (project := connection.secret_project or project):
            raise ValueError("no project of the secret is known; set key_secret_project_id")
        name = f"projects/{project}/secrets/{name}"
    if "/versions/" not in name:
        name = f"{name}/versions/latest"
    answer = transport(
        f"{connection.base('secretmanager', '')}/{name}:access",
        headers={"Authorization": f"Bearer {environment.token}"},
    )
    if answer.status != 200:
        raise ValueError(f"Secret Manager answered {answer.status} for {name}")
    try:
        key = json.loads(base64.b64decode(json.loads(answer.data)["payload"]["data"]), strict=False)
    except (ValueError, KeyError, TypeError):
        # Its text is a secret, and not shown.
        raise ValueError(f"{name} is no JSON key of a service account") from None
    return _of_key(key, connection)


def _of_configuration(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    return _loaded(_configuration(connection), connection, transport)


def _of_identity_provider(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    supplier = _SubjectTokens(connection)
    return _loaded({**_configuration(connection), "subject_token_supplier": supplier}, connection, transport)


def _configuration(connection: GoogleConnection) -> dict[str, Any]:
    if connection.configuration is not None:
        return dict(connection.configuration)
    document = json.loads(Path(connection.configuration_path).read_text())
    if not isinstance(document, dict):
        raise ValueError(f"{connection.configuration_path} is no JSON object")
    return document


def _loaded(document: dict[str, Any], connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    import google.auth

    with warnings.catch_warnings():
        # It advises against configurations of strangers; this one is the deployment's own connection.
        warnings.simplefilter("ignore", DeprecationWarning)
        found, project = google.auth.load_credentials_from_dict(
            document, scopes=list(connection.scopes), request=transport
        )
    return found, project or ""


def _of_environment(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    import google.auth

    request: Any = transport
    found, project = google.auth.default(scopes=list(connection.scopes), request=request)
    return found, project or ""


_FINDERS: Mapping[Source, Callable[[GoogleConnection, Transport], tuple[Any, str]]] = {
    Source.KEY_PATH: _of_key_path,
    Source.KEY_SECRET: _of_secret,
    Source.KEY: _of_connection_key,
    Source.IDENTITY_PROVIDER: _of_identity_provider,
    Source.CONFIGURATION: _of_configuration,
    Source.ENVIRONMENT: _of_environment,
}


class _SubjectTokens:
    """Tokens of another identity provider, as google-auth wants them: OAuth 2.0 client credentials."""

    def __init__(self, connection: GoogleConnection) -> None:
        self._connection = connection

    def get_subject_token(self, context: Any, request: Any) -> str:
        """Return a token, which google-auth exchanges for one of Google's."""
        from urllib.parse import urlencode

        from google.auth.exceptions import RefreshError

        connection = self._connection
        form = {
            **connection.client_parameters,
            "grant_type": "client_credentials",
            "client_id": connection.client_id,
            "client_secret": connection.client_secret,
        }
        answer = request(
            connection.identity_provider,
            method="POST",
            body=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        try:
            token = json.loads(answer.data)["access_token"] if answer.status == 200 else None
        except (ValueError, KeyError, TypeError):
            token = None
        if not token:
            raise RefreshError(
                f"{connection.identity_provider} answered {answer.status} without an access_token",
                retryable=answer.status >= 500,
            )
        return str(token)


def _impersonated(source: Any, connection: GoogleConnection) -> tuple[Any, str]:
    from google.auth import impersonated_credentials

    *delegates, target = connection.impersonation
    found = impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=target,
        target_scopes=list(connection.scopes),
        delegates=delegates,
        iam_endpoint_override=_iam(connection, target, "generateAccessToken"),
    )
    # <name>@<project>.iam.gserviceaccount.com
    domain = target.partition("@")[2]
    return found, domain.removesuffix(".iam.gserviceaccount.com") if domain.endswith(".iam.gserviceaccount.com") else ""


def _iam(connection: GoogleConnection, account: str, verb: str) -> str | None:
    base = connection.endpoints.get("iamcredentials")
    return f"{base.rstrip('/')}/projects/-/serviceAccounts/{account}:{verb}" if base else None


def _identity(found: Any, audience: str, transport: Transport, connection: GoogleConnection) -> Any:
    """Return credentials whose token says who calls."""
    from google.auth import impersonated_credentials
    from google.oauth2 import id_token, service_account

    if isinstance(found, service_account.Credentials):
        return service_account.IDTokenCredentials(
            signer=found.signer,
            service_account_email=found.service_account_email,
            token_uri=found._token_uri,
            target_audience=audience,
        )
    if isinstance(found, impersonated_credentials.Credentials):
        return impersonated_credentials.IDTokenCredentials(found, target_audience=audience, include_email=True)
    if connection.source is Source.ENVIRONMENT:
        return id_token.fetch_id_token_credentials(audience, request=transport)
    raise CredentialsRefused(
        f"the credentials of {connection.where} cannot say to {audience} who calls",
        status=401,
        code="UNAUTHENTICATED",
        do="Add a service account as impersonation_chain to the connection, and grant roles/run.invoker to it",
    )
