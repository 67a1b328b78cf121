"""``modelway doctor google`` against the fake: what is there, what is missing, and that it changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import main
from modelway.platforms.google.checks import APIS, BUCKET_ROLE, ROLES

from tests.google.fake import GoogleFake, Refused
from tests.google.project import Project

ALL = (
    *("--region", "us-central1", "--bucket", "gs://models/artifacts", "--accelerator", "nvidia-l4"),
    *("--service-account", "jobs@p1.iam.gserviceaccount.com"),
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleFake]:
    with GoogleFake(Project) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_GOOGLE", running.airflow_connection())
        yield running


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Return the status and what was found: check → result, what and what to do."""
    status = main(["doctor", "google", "--json", *words])
    found = json.loads(capsys.readouterr().out)
    return status, {f"{one['check']}{'' if one['level'] == 'ok' else ' ' + one['level']}": one for one in found}


def test_a_project_that_has_everything(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = doctor(capsys, *ALL)
    assert (status, [one for one in found.values() if one["level"] != "ok"]) == (0, [])
    assert {"api run.googleapis.com", "roles/aiplatform.user", "bucket models", "cloud run"} <= found.keys()
    project = fake.service(Project)
    assert project.created == []
    (validated,) = fake.calls("run.projects.locations.services.create")
    assert validated.query["validateOnly"] == "true"


def test_what_is_missing_is_said_with_what_to_do(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    project = fake.service(Project)
    project.apis -= {"run.googleapis.com"}
    project.permissions -= {"aiplatform.customJobs.cancel"}
    project.may_act_as.clear()
    project.bucket_permissions.clear()
    status, found = doctor(capsys, *ALL)
    assert status == 1
    assert "Enable run.googleapis.com in the project p1" in found["api run.googleapis.com missing"]["do"]
    assert found["roles/aiplatform.user missing"]["what"] == "aiplatform.customJobs.cancel"
    assert "roles/storage.objectUser on gs://models" in found["bucket models missing"]["do"]
    account = found["service account jobs@p1.iam.gserviceaccount.com missing"]
    assert account["do"].startswith("Grant roles/iam.serviceAccountUser on jobs@p1")


def test_a_role_on_the_repository_alone_is_not_missing(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/google.md has it granted: a test of the project does not see it."""
    role = "roles/artifactregistry.writer"
    fake.service(Project).permissions -= set(ROLES[role])
    status, found = doctor(capsys, *ALL)
    assert (status, [one["check"] for one in found.values() if one["level"] != "ok"]) == (0, [role])
    assert "has roles/artifactregistry.writer on the repository of the images" in found[f"{role} warning"]["do"]


def test_a_bucket_of_another_project_in_another_region(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.service(Project).buckets["models"] = {"projectNumber": "2", "location": "ASIA-EAST1", "locationType": "region"}
    status = main(["doctor", "google", *ALL])
    shown = capsys.readouterr().out
    assert status == 0
    assert "it is in another project (number 2) than p1" in shown
    assert "it is in asia-east1, not in us-central1" in shown
    assert "roles in p1 do not reach it." in shown


def test_a_region_without_the_accelerator_names_those_that_have_it(
    fake: GoogleFake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.service(Project).accelerators["nvidia-l4"] = {"europe-west4-b"}
    status, found = doctor(capsys, *ALL)
    assert status == 1
    assert found["accelerator nvidia-l4 missing"]["do"] == "Use one of: europe-west4"


def test_a_region_that_does_not_exist(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = doctor(capsys, "--region", "us-middle1")
    assert status == 1
    assert "region us-middle1 missing" in found


def test_a_check_that_is_refused_hides_no_other(fake: GoogleFake, capsys: pytest.CaptureFixture[str]) -> None:
    message = "Cloud Resource Manager API has not been used in project p1 before or it is disabled."
    off = Refused(403, message, reason="SERVICE_DISABLED", metadata={"service": "cloudresourcemanager.googleapis.com"})
    fake.fail("cloudresourcemanager.projects.testIamPermissions", off)
    fake.service(Project).buckets.clear()
    status, found = doctor(capsys, *ALL)
    assert status == 1
    assert "Enable cloudresourcemanager.googleapis.com" in found["permissions unknown"]["do"]
    assert "does not exist" in found["bucket unknown"]["what"]
    assert "accelerator nvidia-l4" in found


def test_without_a_project_it_is_asked_for(
    fake: GoogleFake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_GOOGLE", fake.airflow_connection(project=""))
    assert main(["doctor", "google"]) == 1
    assert "--project" in capsys.readouterr().err


def test_the_page_names_what_is_checked() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "google.md").read_text()
    assert all(f"`{role}`" in page for role in (*ROLES, BUCKET_ROLE))
    assert all(f"`{api.removesuffix('.googleapis.com')}`" in page for api in APIS)
