"""Calls of Google's APIs, on the fake of tests/google: what is sent again, what is not, and what each failure says."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from modelway.platforms.google.connection import Source
from modelway.platforms.google.errors import CredentialsRefused, GoogleError, LostAnswer, error_of_status
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.operations import read_operation
from modelway.platforms.google.rest import GoogleApi

from tests.google.clock import Clock
from tests.google.fake import CUT, LOST_ANSWER, NOT_DONE, Call, GoogleFake, Refused
from tests.google.lists import filtered, page_of
from tests.google.operations import Failed

JOBS = "projects/p1/locations/us-central1/customJobs"
CREATE, LIST, GET = (f"aiplatform.projects.locations.customJobs.{verb}" for verb in ("create", "list", "get"))
JOB = {
    "displayName": "j",
    "labels": {"modelway": "j-1"},
    "jobSpec": {"workerPoolSpecs": [{"replicaCount": "1", "machineSpec": {"machineType": "n1-standard-4"}}]},
}
QUICK = Retries(attempts=3, pause_seconds=0.001)


class Jobs:
    """The least of a service: it keeps what it is given."""

    def __init__(self, fake: GoogleFake) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        fake.handle(CREATE, self.create)
        fake.handle(LIST, self.list)
        fake.handle(GET, self.get)
        fake.handle("aiplatform.projects.locations.customJobs.delete", self.delete)

    def create(self, call: Call) -> Mapping[str, Any]:
        name = f"{call.names['parent']}/customJobs/{len(self.jobs) + 1}"
        self.jobs[name] = {**call.body, "name": name, "createTime": call.fake.clock.stamp()}
        return self.jobs[name]

    def list(self, call: Call) -> Mapping[str, Any]:
        found = filtered(list(self.jobs.values()), call.query.get("filter", ""))
        return page_of(found, key="customJobs", query=call.query)

    def get(self, call: Call) -> Mapping[str, Any]:
        if call.names["name"] not in self.jobs:
            raise Refused(404, f"{call.names['name']} is not found.")
        return self.jobs[call.names["name"]]

    def delete(self, call: Call) -> Mapping[str, Any]:
        def work() -> Mapping[str, Any]:
            if call.names["name"] not in self.jobs:
                raise Failed(9, "It is gone.")
            del self.jobs[call.names["name"]]
            return {}

        parent = call.names["name"].partition("/customJobs")[0]
        return call.fake.operations.start(parent, work, seconds=60)


@pytest.fixture
def fake() -> Iterator[GoogleFake]:
    with GoogleFake(Jobs, clock=Clock(speed=0)) as running:
        yield running


@pytest.fixture
def api(fake: GoogleFake) -> Iterator[GoogleApi]:
    with GoogleApi(fake.connection(), retries=QUICK) as made:
        yield made


def test_a_job_is_made_found_by_its_label_and_read(api: GoogleApi) -> None:
    made = api.post("aiplatform", JOBS, body=JOB)
    api.post("aiplatform", JOBS, body={**JOB, "labels": {"modelway": "j-2"}})
    found = list(api.pages("aiplatform", JOBS, "customJobs", params={"filter": "labels.modelway=j-1"}))
    assert [one["name"] for one in found] == [made["name"]]
    assert api.get("aiplatform", made["name"])["displayName"] == "j"


def test_all_pages_are_read(api: GoogleApi, fake: GoogleFake) -> None:
    for number in range(5):
        api.post("aiplatform", JOBS, body={**JOB, "displayName": str(number)})
    found = api.pages("aiplatform", JOBS, "customJobs", params={"pageSize": 2})
    assert [one["displayName"] for one in found] == ["0", "1", "2", "3", "4"]
    assert len(fake.calls(LIST)) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**JOB, "display_nam": "x"}, 'Unknown name "display_nam"'),
        ({**JOB, "jobSpec": {**JOB["jobSpec"], "scheduling": {"strategy": "SPOTT"}}}, "SPOTT"),
        ({**JOB, "jobSpec": {**JOB["jobSpec"], "scheduling": {"timeout": 60}}}, "TYPE_STRING"),
        ({"jobSpec": JOB["jobSpec"]}, "displayName is required"),
        ({**JOB, "labels": {"a": 1}}, "TYPE_STRING"),
    ],
)
def test_a_request_that_google_would_refuse_is_refused(api: GoogleApi, body: dict[str, Any], message: str) -> None:
    with pytest.raises(GoogleError, match=message) as caught:
        api.post("aiplatform", JOBS, body=body)
    assert caught.value.status == 400
    assert not caught.value.retryable


def test_a_parameter_that_google_does_not_have_is_refused(api: GoogleApi) -> None:
    with pytest.raises(GoogleError, match='Unknown name "filters"'):
        api.get("aiplatform", JOBS, params={"filters": "x"})


@pytest.mark.parametrize("what", [503, 429, NOT_DONE, CUT, LOST_ANSWER])
def test_reading_is_repeated(api: GoogleApi, fake: GoogleFake, what: Any) -> None:
    fake.fail(LIST, Refused(429, "Quota exceeded: requests per minute") if what == 429 else what, times=2)
    assert list(api.pages("aiplatform", JOBS, "customJobs")) == []
    assert len(fake.calls(LIST)) == 3


def test_reading_gives_up_after_some_attempts(api: GoogleApi, fake: GoogleFake) -> None:
    fake.fail(LIST, 503, times=9)
    with pytest.raises(GoogleError, match=r"UNAVAILABLE.*Try again") as caught:
        api.get("aiplatform", JOBS)
    assert caught.value.retryable
    assert caught.value.is_unavailable
    assert len(fake.calls(LIST)) == 3


@pytest.mark.parametrize("what", [503, NOT_DONE, CUT, LOST_ANSWER])
def test_a_create_without_an_answer_is_not_repeated(api: GoogleApi, fake: GoogleFake, what: Any) -> None:
    fake.fail(CREATE, what)
    with pytest.raises(LostAnswer, match="Check whether it happened"):
        api.post("aiplatform", JOBS, body=JOB)
    assert len(fake.calls(CREATE)) == 1
    assert len(fake.service(Jobs).jobs) == (what in (CUT, LOST_ANSWER))


def test_a_create_that_was_refused_for_its_rate_is_repeated(api: GoogleApi, fake: GoogleFake) -> None:
    fake.fail(CREATE, Refused(429, "Too many.", reason="RATE_LIMIT_EXCEEDED", headers={"Retry-After": "0"}))
    api.post("aiplatform", JOBS, body=JOB)
    assert len(fake.calls(CREATE)) == 2


def test_a_quota_of_machines_is_no_rate(api: GoogleApi, fake: GoogleFake) -> None:
    quota = "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
    fake.fail(CREATE, Refused(429, f"The following quota metrics exceed quota limits: {quota}"))
    with pytest.raises(GoogleError, match=rf"{quota}.*quota of project p1 raised") as caught:
        api.post("aiplatform", JOBS, body=JOB)
    assert not caught.value.retryable


def test_an_api_that_is_off_is_said_with_what_to_do(api: GoogleApi, fake: GoogleFake) -> None:
    message = "Vertex AI API has not been used in project p1 before or it is disabled."
    fake.fail("*", Refused(403, message, reason="SERVICE_DISABLED", metadata={"service": "aiplatform.googleapis.com"}))
    with pytest.raises(GoogleError, match=r"Enable aiplatform.googleapis.com in the project p1") as caught:
        api.get("aiplatform", JOBS)
    assert caught.value.reason == "SERVICE_DISABLED"


def test_nobody_listens(fake: GoogleFake) -> None:
    nowhere = {"aiplatform": "http://127.0.0.1:9/v1"}
    with GoogleApi(replace(fake.connection(), endpoints=nowhere), retries=QUICK) as api:
        with pytest.raises(GoogleError, match="could not be sent") as caught:
            api.post("aiplatform", JOBS, body=JOB)
        assert not isinstance(caught.value, LostAnswer)


def test_values_newer_than_the_documents_arrive_as_they_are(api: GoogleApi, fake: GoogleFake) -> None:
    name = api.post("aiplatform", JOBS, body=JOB)["name"]
    fake.service(Jobs).jobs[name]["state"] = "JOB_STATE_BRAND_NEW"
    assert api.get("aiplatform", name)["state"] == "JOB_STATE_BRAND_NEW"


def test_an_operation_ends_with_its_effect(api: GoogleApi, fake: GoogleFake) -> None:
    name = api.post("aiplatform", JOBS, body=JOB)["name"]
    begun, again = (api.delete("aiplatform", name)["name"] for _ in range(2))
    assert not read_operation(api, "aiplatform", begun, what="delete the job").done
    assert name in fake.service(Jobs).jobs
    fake.clock.advance(61)
    ended = read_operation(api, "aiplatform", begun, what="delete the job")
    assert (ended.done, ended.error) == (True, None)
    assert fake.service(Jobs).jobs == {}
    failed = read_operation(api, "aiplatform", again, what="delete the job")
    assert failed.done
    assert str(failed.error) == "delete the job was refused: FAILED_PRECONDITION: It is gone."


@pytest.mark.parametrize(
    ("code", "message", "do"),
    [
        (
            7,
            "The agent lacks artifactregistry.repositories.downloadArtifacts.",
            "names to the account that it names, else",
        ),
        (8, "Machine type temporarily unavailable, please retry.", "Choose another machine type or region, or try"),
        (8, "Insufficient quota 'custom_model_serving_nvidia_l4_gpus'.", "have the quota raised"),
        (14, "The service is unavailable.", "Try again; https://status.cloud.google.com"),
        (16, "Request had invalid credentials.", "Renew the credentials; what runs continues"),
    ],
)
def test_an_operation_that_failed_says_what_to_do(code: int, message: str, do: str) -> None:
    """Nothing says whose credentials, and what project, it was of."""
    found = str(error_of_status({"code": code, "message": message}, call="deploy version 3"))
    assert found.startswith("deploy version 3 was refused: ")
    assert message.rstrip(".") in found
    assert do in found
    assert " ;" not in found


def test_a_key_gives_tokens_and_a_new_one_before_the_old_ends(fake: GoogleFake) -> None:
    fake.logins.required = True
    with GoogleApi(fake.connection(source=Source.KEY, key=fake.key()), retries=QUICK) as api:
        api.get("aiplatform", JOBS)
        api.get("aiplatform", JOBS)
        assert fake.logins.issued == 1
        # Revoked, or this machine was asleep.
        fake.logins.revoke()
        api.get("aiplatform", JOBS)
        assert fake.logins.issued == 2
        assert [one.status for one in fake.calls(LIST)] == [200, 200, 401, 200]


def test_a_revoked_key_says_what_to_do(fake: GoogleFake) -> None:
    fake.logins.required = True
    key = fake.key()
    with GoogleApi(fake.connection(source=Source.KEY, key=key), retries=QUICK) as api:
        api.get("aiplatform", JOBS)
        fake.logins.delete_keys()
        fake.logins.revoke()
        with pytest.raises(CredentialsRefused, match="connection modelway_google.*make a new key") as caught:
            api.get("aiplatform", JOBS)
        assert caught.value.is_unavailable
    assert key["private_key"] not in str(caught.value)


def test_another_clock_is_named(fake: GoogleFake) -> None:
    fake.logins.required = True
    fake.clock.advance(7200)
    with (
        GoogleApi(fake.connection(source=Source.KEY, key=fake.key()), retries=QUICK) as api,
        pytest.raises(CredentialsRefused, match=r"clock is 7\d\d\d s behind Google's.*NTP"),
    ):
        api.get("aiplatform", JOBS)


def test_no_secret_is_shown(fake: GoogleFake) -> None:
    connection = fake.connection(source=Source.KEY, key=fake.key(), client_secret="hidden")
    text = repr(connection)
    assert "PRIVATE" not in text
    assert "hidden" not in text
