"""An Airflow connection of type ``google_cloud_platform``, key by key as the provider's form stores it."""

import json
from typing import Any

import pytest
from modelway.errors import ModelwayError
from modelway.platforms.google.connection import PREFIX, SCOPE, Source, connection_of_extra

KEY = {"type": "service_account", "client_email": "a@p1.iam.gserviceaccount.com", "private_key": "-----BEGIN\\nabc\\n"}
CONFIGURATION = {"type": "external_account", "audience": "//iam.googleapis.com/x"}


def of(**extra: Any) -> Any:
    return connection_of_extra(extra, conn_id="modelway_google")


@pytest.mark.parametrize(
    ("extra", "source"),
    [
        ({}, Source.ENVIRONMENT),
        ({"is_anonymous": True}, Source.ANONYMOUS),
        ({"is_anonymous": "True", "key_path": "/k.json"}, Source.ANONYMOUS),
        ({"is_anonymous": False, "key_path": "/k.json"}, Source.KEY_PATH),
        ({"key_path": "/k.json", "keyfile_dict": json.dumps(KEY)}, Source.KEY_PATH),
        ({"keyfile_dict": json.dumps(KEY)}, Source.KEY),
        ({"keyfile_dict": KEY}, Source.KEY),
        ({"keyfile_dict": KEY, "key_secret_name": "key"}, Source.KEY_SECRET),
        ({"credential_config_file": "/federation.json"}, Source.CONFIGURATION),
        ({"credential_config_file": json.dumps(CONFIGURATION)}, Source.CONFIGURATION),
        ({"credential_config_file": CONFIGURATION, "idp_issuer_url": "https://idp"}, Source.IDENTITY_PROVIDER),
        ({"key_path": "", "keyfile_dict": "", "key_secret_name": None}, Source.ENVIRONMENT),
    ],
)
def test_the_credentials_come_from_the_first_field_that_is_filled_in(extra: dict[str, Any], source: Source) -> None:
    assert of(**extra).source is source
    assert of(**{PREFIX + name: value for name, value in extra.items()}).source is source


def test_every_field_of_the_form_is_read() -> None:
    found = of(
        project="p1",
        scope="a, b",
        key_secret_name="key",
        key_secret_project_id="p2",
        impersonation_chain="first@p.iam.gserviceaccount.com, last@p.iam.gserviceaccount.com",
        quota_project_id="p3",
        credential_config_file=json.dumps(CONFIGURATION),
        idp_issuer_url="https://idp",
        client_id="c",
        client_secret="s",
        idp_extra_parameters='{"audience": "x"}',
        num_retries=5,
    )
    assert (found.project, found.quota_project, found.scopes) == ("p1", "p3", ("a", "b"))
    assert (found.secret, found.secret_project) == ("key", "p2")
    assert found.impersonation == ("first@p.iam.gserviceaccount.com", "last@p.iam.gserviceaccount.com")
    assert found.configuration == CONFIGURATION
    assert (found.identity_provider, found.client_id, found.client_secret) == ("https://idp", "c", "s")
    assert found.client_parameters == {"audience": "x"}
    assert of(idp_extra_params={"audience": "y"}).client_parameters == {"audience": "y"}
    assert of(impersonation_chain=["a@b", "c@d"]).impersonation == ("a@b", "c@d")
    assert of().scopes == (SCOPE,)


def test_escaped_line_breaks_of_a_key_are_line_breaks() -> None:
    assert of(keyfile_dict=json.dumps({**KEY, "private_key": "a\\nb"})).key["private_key"] == "a\nb"


def test_the_apis_are_google_s_unless_the_connection_names_others() -> None:
    found = of(api_endpoints=json.dumps({"run": "http://127.0.0.1:1/v2/", "aiplatform": "https://{region}.private/v1"}))
    assert found.base("run", "europe-west1") == "http://127.0.0.1:1/v2"
    assert found.base("aiplatform", "europe-west1") == "https://europe-west1.private/v1"
    assert of().base("aiplatform", "europe-west1") == "https://europe-west1-aiplatform.googleapis.com/v1"
    assert of().base("aiplatform", "") == "https://aiplatform.googleapis.com/v1"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"keyfile_dict": "{secret words"}, "keyfile_dict: it is not JSON"),
        ({"keyfile_dict": "[1]"}, "keyfile_dict: it is no JSON object"),
        ({"keyfile_dict": {"type": "service_account"}}, "keyfile_dict: it has no private_key"),
        ({"key_path": "/secret words.p12"}, "is not a JSON key"),
        ({"idp_issuer_url": "https://idp"}, "idp_issuer_url needs it"),
        ({"project": 7}, "project: it is no text"),
        ({"impersonation_chain": {"a": 1}}, "impersonation_chain: it is no text"),
        ({"api_endpoints": {"vertex": "https://x"}}, "Known: aiplatform, artifactregistry"),
        ({"api_endpoints": {"run": "run.example"}}, "'run.example' is not a URL"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelwayError, match="connection modelway_google") as caught:
        of(**extra)
    assert message in str(caught.value)
    if "keyfile_dict" in extra:
        assert "secret words" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_no_secret_is_in_its_text() -> None:
    found = of(keyfile_dict=KEY, client_secret="hidden", credential_config_file=CONFIGURATION)
    assert not any(secret in repr(found) for secret in ("BEGIN", "hidden", "external_account"))
