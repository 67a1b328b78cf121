"""What a project of Google Cloud lacks for modelway, found by calls that change nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelway.platforms.google.errors import GoogleError
from modelway.platforms.google.rest import GoogleApi

#: API → what needs it
APIS = {
    "aiplatform.googleapis.com": "jobs and endpoints on Vertex AI",
    "run.googleapis.com": "endpoints on Cloud Run",
    "artifactregistry.googleapis.com": "images",
    "storage.googleapis.com": "artifacts and the folders of jobs",
    "iam.googleapis.com": "the service account of jobs and endpoints",
    "logging.googleapis.com": "why a job did not begin",
    "monitoring.googleapis.com": "requests and errors of endpoints",
}
#: role, the least of Google's own that has them → permissions in the project
ROLES: Mapping[str, tuple[str, ...]] = {
    "roles/aiplatform.user": (
        "aiplatform.customJobs.create",
        "aiplatform.customJobs.list",
        "aiplatform.customJobs.cancel",
        "aiplatform.models.upload",
        "aiplatform.endpoints.create",
        "aiplatform.endpoints.deploy",
        "aiplatform.endpoints.update",
    ),
    "roles/run.developer": ("run.services.create", "run.services.get", "run.services.update", "run.services.delete"),
    "roles/artifactregistry.writer": (
        "artifactregistry.repositories.downloadArtifacts",
        "artifactregistry.repositories.uploadArtifacts",
    ),
    "roles/logging.viewer": ("logging.logEntries.list",),
    "roles/monitoring.viewer": ("monitoring.timeSeries.list",),
    "roles/serviceusage.serviceUsageViewer": ("serviceusage.services.get",),
}
#: roles that belong on a resource of the project, where a test of the project itself does not see them
ON_RESOURCES = {"roles/artifactregistry.writer": "the repository of the images"}
BUCKET_ROLE = "roles/storage.objectUser"
_BUCKET = ("storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete")
_ACT_AS = "iam.serviceAccounts.actAs"
_HELLO = "us-docker.pkg.dev/cloudrun/container/hello"


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    MISSING = "missing"
    WARNING = "warning"
    """it works, but not as one may expect"""
    UNKNOWN = "unknown"
    """it could not be found out"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the result."""

    check: str
    level: Level
    what: str
    do: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is checked; empty fields are not."""

    project: str
    region: str = ""
    bucket: str = ""
    service_account: str = ""
    accelerator: str = ""
    """Compute Engine's name of a kind of GPU, such as ``nvidia-l4``."""


def check_project(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    """Yield what is there and what is missing, one finding after the other; each check continues without the others.

    :raises CredentialsRefused: there are no credentials, so that nothing can be found out
    """
    headers = api.credentials.headers()
    yield Finding(
        check="credentials", level=Level.OK, what=f"{api.connection.where}{'' if headers else ' (anonymous)'}"
    )
    checks = [_apis, _permissions]
    checks += [_bucket] if subject.bucket else []
    checks += [_service_account] if subject.service_account else []
    checks += [_region, _cloud_run] if subject.region else []
    checks += [_accelerator] if subject.region and subject.accelerator else []
    for check in checks:
        try:
            yield from check(api, subject)
        except GoogleError as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding(check=name, level=Level.UNKNOWN, what=error.what, do=error.do or "")


def _apis(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    parent = f"projects/{subject.project}"
    names = [f"{parent}/services/{name}" for name in APIS]
    answer = api.get("serviceusage", f"{parent}/services:batchGet", params={"names": names})
    on = {str(one["name"]).rpartition("/")[2] for one in answer.get("services", []) if one.get("state") == "ENABLED"}
    for name, purpose in APIS.items():
        yield _found(
            f"api {name}",
            name in on,
            purpose,
            f"Enable {name} in the project {subject.project} (APIs & Services → Library)",
        )


def _permissions(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    wanted = [permission for permissions in ROLES.values() for permission in permissions]
    granted = _tested(api, "cloudresourcemanager", f"projects/{subject.project}", wanted)
    for role, permissions in ROLES.items():
        lacking = [permission for permission in permissions if permission not in granted]
        if lacking and (resource := ON_RESOURCES.get(role)):
            yield Finding(
                check=role,
                level=Level.WARNING,
                what=f"{', '.join(lacking)}: not in the whole project, perhaps on {resource}",
                do=f"Check that the account of {api.connection.where} has {role} on {resource}",
            )
            continue
        yield _found(
            role,
            not lacking,
            ", ".join(lacking or permissions),
            f"Grant {role} in the project {subject.project} to the account of {api.connection.where}",
        )


def _tested(api: GoogleApi, service: str, resource: str, permissions: Sequence[str]) -> set[str]:
    """Return those of some permissions that the caller has on a resource."""
    body = {"permissions": list(permissions)}
    answer = api.post(service, f"{resource}:testIamPermissions", body=body, idempotent=True)
    return set(answer.get("permissions", []))


def _bucket(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    name = subject.bucket.removeprefix("gs://").partition("/")[0]
    check = f"bucket {name}"
    answer = api.get("storage", f"b/{name}/iam/testPermissions", params={"permissions": list(_BUCKET)})
    lacking = [permission for permission in _BUCKET if permission not in answer.get("permissions", [])]
    do = f"Grant {BUCKET_ROLE} on gs://{name} to the account of {api.connection.where}"
    yield _found(check, not lacking, ", ".join(lacking or _BUCKET), do)
    bucket = api.get("storage", f"b/{name}")
    number = str(api.get("cloudresourcemanager", f"projects/{subject.project}")["name"]).partition("/")[2]
    if str(bucket.get("projectNumber")) != number:
        yield Finding(
            check=check,
            level=Level.WARNING,
            what=f"it is in another project (number {bucket.get('projectNumber')}) than {subject.project}",
            do=f"Grant {BUCKET_ROLE} on it to the jobs' account too: roles in {subject.project} do not reach it",
        )
    place = str(bucket.get("location", "")).lower()
    if subject.region and place != subject.region and bucket.get("locationType") == "region":
        do = "Expect egress costs and slow starts, or use a bucket of the region"
        yield Finding(check=check, level=Level.WARNING, what=f"it is in {place}, not in {subject.region}", do=do)


def _service_account(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    account = subject.service_account
    granted = _tested(api, "iam", f"projects/-/serviceAccounts/{account}", [_ACT_AS])
    yield _found(
        f"service account {account}",
        _ACT_AS in granted,
        _ACT_AS,
        f"Grant roles/iam.serviceAccountUser on {account} to the account of {api.connection.where}",
    )


def _region(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    place = f"projects/{subject.project}/locations/{subject.region}"
    try:
        api.get("aiplatform", place)
        exists = True
    except GoogleError as error:
        # A region that does not exist has no host either.
        if not error.is_absent and error.status not in (0, 400):
            raise
        exists = False
    do = "Choose a region of Vertex AI, such as us-central1 or europe-west4"
    yield _found(f"region {subject.region}", exists, "Vertex AI is there" if exists else "Vertex AI is not there", do)


def _cloud_run(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    template: dict[str, Any] = {"containers": [{"image": _HELLO}]}
    if subject.service_account:
        template["serviceAccount"] = subject.service_account
    api.post(
        "run",
        f"projects/{subject.project}/locations/{subject.region}/services",
        params={"serviceId": "modelway-doctor", "validateOnly": True},
        body={"template": template},
        idempotent=True,
    )
    yield Finding(check="cloud run", level=Level.OK, what=f"a service would be accepted in {subject.region}")


def _accelerator(api: GoogleApi, subject: Subject) -> Iterator[Finding]:
    name = subject.accelerator
    where: set[str] = set()
    token: str | None = ""
    while token is not None:
        answer = api.get(
            "compute",
            f"projects/{subject.project}/aggregated/acceleratorTypes",
            params={"filter": f"name={name}", "pageToken": token or None},
        )
        where |= {
            re.sub(r"-[a-z]$", "", zone.removeprefix("zones/"))
            for zone, found in answer.get("items", {}).items()
            if found.get("acceleratorTypes")
        }
        token = answer.get("nextPageToken")
    there = subject.region in where
    what = f"machines with {name} exist in {subject.region}" if there else f"no machine with {name} in {subject.region}"
    do = f"Use one of: {', '.join(sorted(where)) or 'no region has it, check its name'}"
    yield _found(f"accelerator {name}", there, what, do)


def _found(check: str, is_there: bool, what: str, do: str) -> Finding:
    return Finding(check=check, level=Level.OK if is_there else Level.MISSING, what=what, do="" if is_there else do)
