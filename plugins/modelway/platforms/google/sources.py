"""Where the credentials of a connection come from, as google-auth's objects."""

import base64
import json
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.errors import CredentialsRefused
from modelway.platforms.google.transport import Transport


def find_credentials(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    """Return google-auth's credentials of a connection and their project, empty where they name none."""
    found, project = _FINDERS[connection.source](connection, transport)
    if connection.impersonation:
        found, project = _impersonated(found, connection)
    return found, project


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
    return _loaded(_configuration(connection), connection)


def _of_identity_provider(connection: GoogleConnection, transport: Transport) -> tuple[Any, str]:
    supplier = _SubjectTokens(connection)
    return _loaded({**_configuration(connection), "subject_token_supplier": supplier}, connection)


def _configuration(connection: GoogleConnection) -> dict[str, Any]:
    if connection.configuration is not None:
        return dict(connection.configuration)
    document = json.loads(Path(connection.configuration_path).read_text())
    if not isinstance(document, dict):
        raise ValueError(f"{connection.configuration_path} is no JSON object")
    return document


def _loaded(document: dict[str, Any], connection: GoogleConnection) -> tuple[Any, str]:
    import google.auth
    from google.auth import aws, identity_pool, pluggable

    scopes = list(connection.scopes)
    if document.get("type") != "external_account":
        with warnings.catch_warnings():
            # It advises against configurations of strangers; this one is the deployment's own connection.
            warnings.simplefilter("ignore", DeprecationWarning)
            found, project = google.auth.load_credentials_from_dict(document, scopes=scopes)
        return found, project or ""
    # The library's own choice between them asks another API for the project.
    source = document.get("credential_source") or {}
    kind = identity_pool if "executable" not in source else pluggable
    kind = aws if str(source.get("environment_id", "")).startswith("aws") else kind
    return kind.Credentials.from_info(document, scopes=scopes), ""


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


def _iam(connection: GoogleConnection, account: str, verb: str) -> str:
    return f"{connection.base('iamcredentials', '')}/projects/-/serviceAccounts/{account}:{verb}"


def identity_credentials(found: Any, audience: str, *, transport: Transport, connection: GoogleConnection) -> Any:
    """Return credentials whose token says who calls a service.

    :param found: those of the connection
    :raises CredentialsRefused: they have no identity of a service account
    """
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
        return _ImpersonatedIdentity(found, audience, connection)
    if connection.source is Source.ENVIRONMENT:
        return id_token.fetch_id_token_credentials(audience, request=transport)
    raise CredentialsRefused(
        f"the credentials of {connection.where} cannot say to {audience} who calls",
        status=401,
        code="UNAUTHENTICATED",
        do="Add a service account as impersonation_chain to the connection, and grant roles/run.invoker to it",
    )


class _ImpersonatedIdentity:
    """A token that says that an impersonated account calls; google-auth's own would always ask Google's public API."""

    #: of an hour, as google-auth renews others
    _LIFETIME = timedelta(minutes=55)

    def __init__(self, found: Any, audience: str, connection: GoogleConnection) -> None:
        self._found, self._audience, self._connection = found, audience, connection
        self._until = datetime.now(UTC)
        self.token: str | None = None

    @property
    def token_state(self) -> Any:
        from google.auth.credentials import TokenState

        return TokenState.FRESH if self.token and datetime.now(UTC) < self._until else TokenState.INVALID

    def refresh(self, transport: Transport) -> None:
        from google.auth.credentials import TokenState
        from google.auth.exceptions import RefreshError

        if self._found.token_state is not TokenState.FRESH:
            self._found.refresh(transport)
        target = self._connection.impersonation[-1]
        answer = transport(
            _iam(self._connection, target, "generateIdToken"),
            method="POST",
            body=json.dumps({"audience": self._audience, "includeEmail": True}).encode(),
            headers={"Authorization": f"Bearer {self._found.token}", "Content-Type": "application/json"},
        )
        if answer.status != 200:
            raise RefreshError("Unable to acquire impersonated credentials", answer.data.decode(errors="replace"))
        self.token, self._until = json.loads(answer.data)["token"], datetime.now(UTC) + self._LIFETIME
