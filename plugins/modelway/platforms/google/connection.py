"""A connection to Google Cloud as plain data, read key by key from what Airflow's form stores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modelway.errors import ModelwayError

#: of the connection that all targets on Google Cloud use, unless they have one of their own
GOOGLE_CONN_ID = "modelway_google"
#: what Airflow 1 wrote before each key of a form; old connections still have it
PREFIX = "extra__google_cloud_platform__"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: service → base of its API; {region} is the location that a path names
ENDPOINTS = {
    "aiplatform": "https://{region}-aiplatform.googleapis.com/v1",
    "run": "https://run.googleapis.com/v2",
    "storage": "https://storage.googleapis.com/storage/v1",
    "artifactregistry": "https://artifactregistry.googleapis.com/v1",
    "logging": "https://logging.googleapis.com/v2",
    "monitoring": "https://monitoring.googleapis.com/v3",
    "serviceusage": "https://serviceusage.googleapis.com/v1",
    "cloudresourcemanager": "https://cloudresourcemanager.googleapis.com/v3",
    "iam": "https://iam.googleapis.com/v1",
    "iamcredentials": "https://iamcredentials.googleapis.com/v1",
    "secretmanager": "https://secretmanager.googleapis.com/v1",
    "compute": "https://compute.googleapis.com/compute/v1",
}


class Source(StrEnum):
    """Where the credentials of a connection come from; of several that it names, the first in this order."""

    ANONYMOUS = "anonymous"
    """none: an emulator"""
    KEY_PATH = "key_path"
    """the file of a service account's key"""
    KEY_SECRET = "key_secret_name"
    """a key that Secret Manager has, read with the credentials of the environment"""
    KEY = "keyfile_dict"
    """a key in the connection itself"""
    IDENTITY_PROVIDER = "idp_issuer_url"
    """workload identity federation with a token that an OAuth 2.0 client of another provider gets"""
    CONFIGURATION = "credential_config_file"
    """workload identity federation, by its configuration: a path or the JSON itself"""
    ENVIRONMENT = "environment"
    """application default credentials: GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the machine's service account"""


@dataclass(frozen=True, kw_only=True)
class GoogleConnection:
    """How a process reaches Google Cloud; nothing of it is read from files or sent yet."""

    conn_id: str = ""
    """Of the Airflow connection; empty without one."""
    source: Source = Source.ENVIRONMENT
    project: str = ""
    """The project where a section of the spec names none; empty: that of the credentials."""
    quota_project: str = ""
    """The project that the requests count for; empty: the one that is called."""
    impersonation: tuple[str, ...] = ()
    """Service accounts, each of which may impersonate the next; the last one calls."""
    scopes: tuple[str, ...] = (SCOPE,)
    key_path: str = ""
    key: Mapping[str, Any] | None = field(default=None, repr=False)
    """A service account's key as its file has it."""
    secret: str = ""
    """Secret Manager's name of a key: ``projects/<project>/secrets/<name>``, or the name alone."""
    secret_project: str = ""
    configuration: Mapping[str, Any] | None = field(default=None, repr=False)
    configuration_path: str = ""
    identity_provider: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    client_parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Service → base of its API where it is another than Google's public one."""

    @property
    def where(self) -> str:
        """What a message calls it."""
        return f"connection {self.conn_id}" if self.conn_id else "the Google credentials of the environment"

    def base(self, service: str, region: str) -> str:
        """Return the base of a service's API without a slash at its end.

        :param region: of the location that is called, such as ``us-central1``; empty where there is none
        """
        template = self.endpoints.get(service) or ENDPOINTS[service]
        if not region and service not in self.endpoints:
            template = template.replace("{region}-", "")
        return template.replace("{region}", region).rstrip("/")


def connection_of_extra(extra: Mapping[str, Any], *, conn_id: str) -> GoogleConnection:
    """Return the connection that the extra fields of Airflow's type ``google_cloud_platform`` describe.

    The keys are those of the google provider's form, with or without its old prefix, and ``api_endpoints``: a JSON
    object of service → base of its API, for private endpoints and emulators.

    :raises ModelwayError: a field has a value that cannot be used; the message does not repeat secrets
    """
    return _Extra(extra, conn_id=conn_id).connection()


class _Extra:
    """The extra fields, and the refusals that name them."""

    def __init__(self, extra: Mapping[str, Any], *, conn_id: str) -> None:
        self._extra, self._conn_id = extra, conn_id

    def connection(self) -> GoogleConnection:
        key = self._object("keyfile_dict")
        configuration, path = self._configuration()
        found = GoogleConnection(
            conn_id=self._conn_id,
            source=self._source(),
            project=self._text("project"),
            quota_project=self._text("quota_project_id"),
            impersonation=self._list("impersonation_chain"),
            scopes=self._list("scope") or (SCOPE,),
            key_path=self._text("key_path"),
            key=key and _with_line_breaks(key),
            secret=self._text("key_secret_name"),
            secret_project=self._text("key_secret_project_id"),
            configuration=configuration,
            configuration_path=path,
            identity_provider=self._text("idp_issuer_url"),
            client_id=self._text("client_id"),
            client_secret=self._text("client_secret"),
            # The form stores the one name, the provider reads the other.
            client_parameters=self._texts("idp_extra_params") or self._texts("idp_extra_parameters"),
            endpoints=self._endpoints(),
        )
        self._check(found)
        return found

    def _source(self) -> Source:
        if str(self._get("is_anonymous") or "").lower() in ("true", "1"):
            return Source.ANONYMOUS
        return next((source for source in Source if self._get(source.value) not in (None, "", {})), Source.ENVIRONMENT)

    def _check(self, found: GoogleConnection) -> None:
        if found.source is Source.KEY_PATH and not found.key_path.endswith(".json"):
            raise self._refusal("key_path", f"'{found.key_path}' is not a JSON key", "Make the key anew as JSON")
        if found.source is Source.IDENTITY_PROVIDER and not (found.configuration or found.configuration_path):
            raise self._refusal(
                "credential_config_file",
                "it is empty, and idp_issuer_url needs it",
                "Paste the configuration of workload identity federation, or give its path",
            )
        if found.source is Source.KEY and not (found.key or {}).get("private_key"):
            raise self._refusal(
                "keyfile_dict", "it has no private_key", "Paste the JSON key of a service account whole"
            )

    def _configuration(self) -> tuple[Mapping[str, Any] | None, str]:
        value = self._get("credential_config_file")
        if isinstance(value, str) and value and not value.lstrip().startswith("{"):
            return None, value
        return self._object("credential_config_file"), ""

    def _endpoints(self) -> Mapping[str, str]:
        found = self._texts("api_endpoints")
        for service, base in found.items():
            if service not in ENDPOINTS:
                raise ModelwayError(
                    f"api_endpoints: '{service}' is not a service",
                    where=f"connection {self._conn_id}",
                    known=sorted(ENDPOINTS),
                    given=service,
                )
            if not base.startswith(("https://", "http://")):
                raise self._refusal("api_endpoints", f"'{base}' is not a URL", "Write https://<host>/<version>")
        return found

    def _get(self, key: str) -> Any:
        return self._extra.get(key, self._extra.get(PREFIX + key))

    def _text(self, key: str) -> str:
        value = self._get(key)
        if value is not None and not isinstance(value, str):
            raise self._refusal(key, "it is no text", "Write it as text")
        return (value or "").strip()

    def _list(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            value = ",".join(value)
        if value is not None and not isinstance(value, str):
            raise self._refusal(key, "it is no text", "Write the names with commas between them")
        return tuple(part for each in (value or "").split(",") if (part := each.strip()))

    def _texts(self, key: str) -> Mapping[str, str]:
        return {str(name): str(value) for name, value in (self._object(key) or {}).items()}

    def _object(self, key: str) -> Mapping[str, Any] | None:
        value = self._get(key)
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value, strict=False)
            except ValueError:
                # The text is not shown, not even as the cause: it may be a key.
                raise self._refusal(key, "it is not JSON", "Paste the whole file, from { to }") from None
        if value in (None, "", {}):
            return None
        if not isinstance(value, Mapping):
            raise self._refusal(key, "it is no JSON object", "Paste the whole file, from { to }")
        return value

    def _refusal(self, key: str, what: str, do: str) -> ModelwayError:
        return ModelwayError(f"{key}: {what}", where=f"connection {self._conn_id}", do=do)


def _with_line_breaks(key: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a key whose line breaks may have been escaped on their way into the connection."""
    return {**key, "private_key": str(key.get("private_key") or "").replace("\\n", "\n")}
