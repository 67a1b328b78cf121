"""The credentials of a connection, each kind against the fake: found and refreshed."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.vertex.backend import VertexBackend
from modelway.hooks.backend import backend_from_airflow, forget_backends
from modelway.platforms.google.connection import GoogleConnection, connection_of_extra
from modelway.platforms.google.credentials import GoogleCredentials
from modelway.platforms.google.errors import CredentialsRefused
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi

from tests.google.accounts import Accounts, key_text
from tests.google.clock import Clock
from tests.google.fake import Call, GoogleFake
from tests.google.logins import CLIENT, SUBJECT, claims_of

ACCOUNT = "modelway@p1.iam.gserviceaccount.com"
MIDDLE, TARGET = "middle@p2.iam.gserviceaccount.com", "target@p3.iam.gserviceaccount.com"
JOBS = "projects/p1/locations/r1/customJobs"
QUICK = Retries(attempts=2, pause_seconds=0.001)


class Callers:
    """A service that remembers who called, and for which project."""

    def __init__(self, fake: GoogleFake) -> None:
        self.accounts: list[str] = []
        fake.handle("aiplatform.projects.locations.customJobs.list", self.list)

    def list(self, call: Call) -> Mapping[str, Any]:
        self.accounts.append(call.account)
        return {}


@pytest.fixture
def fake() -> Iterator[GoogleFake]:
    with GoogleFake(Callers, Accounts, clock=Clock()) as running:
        running.logins.required = True
        yield running


def connected(fake: GoogleFake, **extra: Any) -> GoogleConnection:
    """Return what an Airflow connection with these fields leads to."""
    fields = {**json.loads(fake.airflow_connection(**extra))["extra"], **extra}
    if "is_anonymous" not in extra:
        del fields["is_anonymous"]
    return connection_of_extra(fields, conn_id="modelway_google")


def caller(fake: GoogleFake, **extra: Any) -> str:
    """Return who calls by a connection with these fields."""
    with GoogleApi(connected(fake, is_anonymous=False, **extra), retries=QUICK) as api:
        api.get("aiplatform", JOBS)
    return str(fake.service(Callers).accounts[-1])


def federation(fake: GoogleFake, **more: Any) -> dict[str, Any]:
    """Return a configuration of workload identity federation that the fake takes."""
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/other",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{fake.url}/sts",
        **more,
    }


def test_a_key_in_a_file(fake: GoogleFake, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(key_text(fake.key()))
    assert caller(fake, key_path=str(tmp_path / "key.json")) == ACCOUNT


def test_a_key_in_the_connection(fake: GoogleFake) -> None:
    assert caller(fake, keyfile_dict=key_text(fake.key())) == ACCOUNT
    escaped = {**(key := fake.key()), "private_key": key["private_key"].replace("\n", "\\n")}
    assert caller(fake, keyfile_dict=escaped) == ACCOUNT


def test_a_key_in_secret_manager(fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.json").write_text(key_text(fake.key("machine@p9.iam.gserviceaccount.com")))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    fake.service(Accounts).secrets["projects/p2/secrets/key"] = key_text(fake.key())
    assert caller(fake, key_secret_name="key", key_secret_project_id="p2") == ACCOUNT
    assert caller(fake, key_secret_name="projects/p2/secrets/key") == ACCOUNT
    fake.service(Accounts).secrets["projects/p9/secrets/key"] = "no key, but secret"
    with pytest.raises(CredentialsRefused, match="projects/p9/secrets/key/versions/latest is no JSON key") as caught:
        caller(fake, key_secret_name="key")
    assert "but secret" not in str(caught.value)


def test_workload_identity_by_a_file(fake: GoogleFake, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SUBJECT)
    (tmp_path / "federation.json").write_text(
        json.dumps(federation(fake, credential_source={"file": str(tmp_path / "token")}))
    )
    assert caller(fake, credential_config_file=str(tmp_path / "federation.json")).startswith("principal://")
    (tmp_path / "token").write_text("expired")
    with pytest.raises(CredentialsRefused, match="The given credential is rejected.*workload identity federation"):
        caller(fake, credential_config_file=(tmp_path / "federation.json").read_text())


def test_workload_identity_by_another_provider(fake: GoogleFake) -> None:
    fields = {
        "credential_config_file": federation(fake),
        "idp_issuer_url": f"{fake.url}/identity-provider",
        "client_id": CLIENT[0],
        "idp_extra_parameters": '{"scope": "s"}',
    }
    assert caller(fake, **fields, client_secret=CLIENT[1]).startswith("principal://")
    assert ("scope", "s") in dict(fake.logins.forms)["identity-provider"].items()
    with pytest.raises(CredentialsRefused, match=r"answered 401 without an access_token.*client_secret") as caught:
        caller(fake, **fields, client_secret="a wrong one")
    assert "a wrong one" not in str(caught.value)


def test_the_credentials_of_the_environment(fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.json").write_text(key_text(fake.key()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert caller(fake) == ACCOUNT
    credentials = GoogleCredentials(GoogleConnection())
    assert credentials.project() == "p1"
    credentials.close()


def test_no_credentials_at_all(fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(CredentialsRefused, match="Set GOOGLE_APPLICATION_CREDENTIALS"):
        caller(fake)


def test_a_chain_of_impersonation(fake: GoogleFake) -> None:
    fake.service(Accounts).may_act = {MIDDLE: {ACCOUNT}, TARGET: {MIDDLE}}
    chain = {"keyfile_dict": fake.key(), "impersonation_chain": f"{MIDDLE}, {TARGET}"}
    assert caller(fake, **chain) == TARGET
    credentials = GoogleCredentials(connected(fake, is_anonymous=False, project="", **chain))
    assert credentials.project() == "p3"
    credentials.close()
    fake.service(Accounts).may_act = {}
    with pytest.raises(CredentialsRefused, match=r"iam.serviceAccounts.getAccessToken.*serviceAccountTokenCreator"):
        caller(fake, **chain)


def test_the_requests_count_for_the_quota_project(fake: GoogleFake) -> None:
    caller(fake, keyfile_dict=fake.key(), quota_project_id="p7")
    assert fake.requests[-1].headers["x-goog-user-project"] == "p7"


def test_an_anonymous_connection_sends_no_token(fake: GoogleFake) -> None:
    fake.logins.required = False
    with GoogleApi(connected(fake, is_anonymous=True)) as api:
        api.get("aiplatform", JOBS)
    assert "Authorization" not in fake.requests[-1].headers


@pytest.mark.parametrize("chain", ["", TARGET])
def test_a_service_learns_who_calls(fake: GoogleFake, chain: str) -> None:
    fake.service(Accounts).may_act = {TARGET: {ACCOUNT}}
    extra = {"keyfile_dict": fake.key(), "impersonation_chain": chain}
    credentials = GoogleCredentials(connected(fake, is_anonymous=False, **extra))
    headers = credentials.identity("https://digits.run.app")
    assert credentials.identity("https://digits.run.app") == headers
    claims = claims_of(headers["Authorization"].removeprefix("Bearer "))
    assert (claims["aud"], claims["email"]) == ("https://digits.run.app", chain or ACCOUNT)
    credentials.close()


def test_credentials_of_the_environment_without_an_identity_are_refused_with_what_to_do(
    fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a user's own, or those of a machine that has none."""
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "user.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    credentials = GoogleCredentials(connected(fake, is_anonymous=False))
    with pytest.raises(CredentialsRefused, match=r"cannot be used to say who calls.*GOOGLE_APPLICATION_CREDENTIALS"):
        credentials.identity("https://digits.run.app")
    credentials.close()


def test_a_key_that_was_renewed_in_its_file_is_read_after_a_refusal(fake: GoogleFake, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(key_text(fake.key()))
    fake.logins.token_seconds = 0
    with GoogleApi(connected(fake, is_anonymous=False, key_path=str(tmp_path / "key.json")), retries=QUICK) as api:
        fake.logins.delete_keys()
        for _ in range(2):
            with pytest.raises(CredentialsRefused, match="Invalid JWT Signature"):
                api.get("aiplatform", JOBS)
            assert api.credentials.are_refused
        fake.logins.token_seconds = 3600
        (tmp_path / "key.json").write_text(key_text(fake.key()))
        api.get("aiplatform", JOBS)
        assert not api.credentials.are_refused


def test_a_key_that_was_renewed_in_the_connection_is_read_after_a_refusal(
    fake: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key_of_connection() -> None:
        monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_GOOGLE", fake.airflow_connection(keyfile_dict=key_text(fake.key())))

    monkeypatch.setattr("modelway.hooks.backend.READ_AGAIN_SECONDS", 0.0)
    forget_backends()
    key_of_connection()
    fake.logins.delete_keys()
    first = backend_from_airflow("vertex", home=tmp_path)
    assert isinstance(first, VertexBackend)
    assert backend_from_airflow("vertex", home=tmp_path) is first
    with pytest.raises(CredentialsRefused):
        first.api.get("aiplatform", JOBS)
    key_of_connection()
    second = backend_from_airflow("vertex", home=tmp_path)
    assert isinstance(second, VertexBackend)
    second.api.get("aiplatform", JOBS)
    assert backend_from_airflow("vertex", home=tmp_path) is second
    for each in (first, second):
        each.api.close()
    forget_backends()


def test_a_token_that_ends_soon_is_used_while_no_new_one_comes(fake: GoogleFake) -> None:
    fake.logins.token_seconds = 120
    with GoogleApi(connected(fake, is_anonymous=False, keyfile_dict=fake.key()), retries=QUICK) as api:
        api.get("aiplatform", JOBS)
        # google-auth wants a new one in the last minutes; its endpoint is out of order.
        fake.logins.down = 99
        api.get("aiplatform", JOBS)
        fake.logins.down = 0
        api.get("aiplatform", JOBS)
    assert fake.logins.issued == 2


def test_one_token_serves_many_threads(fake: GoogleFake) -> None:
    with GoogleApi(connected(fake, is_anonymous=False, keyfile_dict=fake.key())) as api:
        threads = [threading.Thread(target=api.get, args=("aiplatform", JOBS)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.logins.issued == 1
    assert fake.service(Callers).accounts == [ACCOUNT] * 8


def test_no_log_has_a_secret(fake: GoogleFake, caplog: pytest.LogCaptureFixture) -> None:
    key = fake.key()
    with caplog.at_level(logging.DEBUG):
        caller(fake, keyfile_dict=key)
        fake.logins.delete_keys()
        with pytest.raises(CredentialsRefused):
            caller(fake, keyfile_dict=key)
    assert "ya29." not in caplog.text
    assert key["private_key"].splitlines()[1] not in caplog.text
