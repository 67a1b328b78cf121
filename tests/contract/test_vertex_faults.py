"""What Vertex AI refuses, loses and ends: nothing runs twice, nothing that runs is lost, and each has its cause."""

import json
import shutil
import time

import pytest
from modelway.backends.base import Handle, Job, JobState, Options, load_backend
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.google.exchange import Retries
from modelway.platforms.google.rest import GoogleApi

from tests.google.fake import CUT, LOST_ANSWER, NOT_DONE, GoogleFake, Refused
from tests.google.vertex_jobs import VertexJobs
from tests.job_folders import ended, store_code, wait_for

JOBS = "aiplatform.projects.locations.customJobs"
CREATE, LIST, GET, CANCEL = (f"{JOBS}.{name}" for name in ("create", "list", "get", "cancel"))


@pytest.fixture
def fake():
    """A fake whose jobs have no containers: they run until a test ends them."""
    with GoogleFake(VertexJobs) as made:
        yield made


@pytest.fixture
def service(fake):
    return fake.service(VertexJobs)


@pytest.fixture
def connect(fake, tmp_path, monkeypatch):
    """Make a backend as a worker elsewhere has it: with a home of its own."""
    monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 0.0)
    monkeypatch.setattr("modelway.backends.vertex.backend.LOST_PAUSES", (0.01, 0.01))
    monkeypatch.setattr("modelway.backends.vertex.backend.POLL_SECONDS", 0.02)
    apis = []

    def made(name="home"):
        apis.append(GoogleApi(fake.connection(), retries=Retries(attempts=2, pause_seconds=0.01)))
        return load_backend("vertex", home=tmp_path / name, client=apis[-1])

    yield made
    for api in apis:
        api.close()


@pytest.fixture
def submit(tmp_path):
    code = store_code(tmp_path / "source", "def train(job): ...\n")

    def submitted(backend, *, platform=None, image="image", gpu=0, **fields):
        words = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", **fields}
        platform = {"region": "us-central1", **(platform or {})}
        options = Options(storage={"uri": (tmp_path / "bucket").as_uri()}, platform=platform, image=image, gpu=gpu)
        return backend.submit(backend.build_request(Job(**words, module="tiny.py", code=code), options))

    return submitted


@pytest.fixture
def job_of(service):
    """Return the only job of an attempt that is not over."""

    def found(handle):
        (job,) = [job for job in service.of_token(handle.mark.rpartition("/")[2]) if job.state != "CANCELLED"]
        return job

    return found


@pytest.mark.parametrize("fault", [LOST_ANSWER, CUT, 503])
def test_a_create_whose_answer_is_lost_makes_one_job(fake, service, connect, submit, fault):
    fake.fail(CREATE, fault)
    backend = connect()
    if fault == 503:
        with pytest.raises(SubmitFailed, match="not known whether the job was created") as refused:
            submit(backend)
        assert (refused.value.kind, refused.value.retryable) == (FailureKind.UNREACHABLE, True)
    handle = submit(backend)
    assert submit(connect("elsewhere")) == handle
    assert (len(service.jobs), handle.attempt) == (1, 1)


def test_a_create_that_did_not_happen_is_made_by_the_next_attempt(fake, service, connect, submit):
    fake.fail(CREATE, NOT_DONE)
    with pytest.raises(SubmitFailed) as refused:
        submit(connect())
    assert refused.value.kind is FailureKind.UNREACHABLE
    assert submit(connect()).attempt == 1
    assert len(service.jobs) == 1


def test_of_two_jobs_of_one_attempt_the_earlier_stays(fake, service, connect, submit, monkeypatch):
    """Two workers search at the same time, find nothing, and both create one."""
    slow, fast = connect("slow"), connect("fast")
    created, handles = slow.jobs.create, []

    def create_later(place, body):
        monkeypatch.setattr(slow.jobs, "create", created)
        handles.append(submit(fast))
        return created(place, body)

    monkeypatch.setattr(slow.jobs, "create", create_later)
    handles.append(submit(slow))
    assert handles[0] == handles[1]
    first, second = service.jobs.values()
    assert (first.state, second.state) == ("RUNNING", "CANCELLED" if second.state == "CANCELLED" else "CANCELLING")
    assert slow.describe(handles[0]).state is JobState.RUNNING


def test_a_second_job_that_a_list_shows_late_is_ended_by_whoever_follows(fake, service, connect, submit):
    backend = connect()
    handle = submit(backend)
    (first,) = service.jobs.values()
    service.fake.clock.advance(60)
    body = {key: first.document[key] for key in ("displayName", "labels", "jobSpec")}
    backend.api.post("aiplatform", "projects/p1/locations/us-central1/customJobs", body=body)
    assert backend.describe(handle).state is JobState.RUNNING
    _, second = service.jobs.values()
    wait_for(lambda: second.state == "CANCELLED", seconds=60, what="the end of the second")
    assert first.state == "RUNNING"


def test_a_job_that_no_list_shows_yet_is_followed_all_the_same(service, connect, submit):
    service.list_lag_seconds = 3600
    backend = connect()
    handle = submit(backend)
    assert backend.describe(handle).state is JobState.RUNNING
    assert submit(backend) == submit(connect("elsewhere")) == handle
    backend.cancel(handle)
    assert service.jobs.popitem()[1].state == "CANCELLED"


def test_one_list_serves_all_jobs_of_a_region(fake, service, connect, submit, monkeypatch):
    monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 3600.0)
    backend = connect()
    handles = [submit(backend, run=f"r{number}") for number in range(5)]
    fake.requests.clear()
    for _ in range(10):
        assert {backend.describe(handle).state for handle in handles} == {JobState.RUNNING}
    assert [(one.method, one.query["filter"].partition(" ")[0]) for one in fake.requests] == [
        (LIST, "labels.modelway=job")
    ]


def test_a_list_of_many_pages_is_made_so_much_less_often(service, connect, submit, monkeypatch):
    monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 6.0)
    service.page = 1
    backend = connect()
    handle, *_ = [submit(backend, run=f"r{number}") for number in range(5)]
    now = [1000.0]
    monkeypatch.setattr("modelway.backends.vertex.running.time.monotonic", lambda: now[0])
    before = len(service.fake.calls(LIST))
    for _ in range(60):
        now[0] += 1
        backend.describe(handle)
    assert len(service.fake.calls(LIST)) - before <= 10, "ten calls a minute"


def test_the_end_of_a_job_costs_one_more_call(fake, service, connect, submit, job_of):
    backend = connect()
    handle = submit(backend)
    service.stop(job_of(handle), "SUCCEEDED", 0, "", at_once=True)
    wait_for(lambda: job_of(handle).state == "SUCCEEDED", seconds=60, what="its end")
    fake.requests.clear()
    assert backend.describe(handle).state is JobState.SUCCEEDED
    assert [one.method for one in fake.requests] == [LIST, GET]
    backend.describe(handle)
    assert len(fake.requests) == 2, "how it ended is recorded"
    assert connect("elsewhere").describe(handle).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Refused(403, "Permission 'iam.serviceAccounts.actAs' denied"), FailureKind.FORBIDDEN, "Grant the permission"),
        (
            Refused(
                403,
                "Vertex AI API has not been used in project p1 before or it is disabled.",
                reason="SERVICE_DISABLED",
            ),
            FailureKind.FORBIDDEN,
            "Enable ",
        ),
        (Refused(400, "Machine type x is not supported."), FailureKind.REFUSED, "Machine type x"),
        (Refused(404, "Region is not there"), FailureKind.REFUSED, "Check project, region"),
        (401, FailureKind.UNREACHABLE, "Renew the credentials"),
    ],
)
def test_a_create_that_is_refused_has_its_kind_and_what_to_do(fake, service, connect, submit, error, kind, said):
    fake.fail(CREATE, error, times=9)
    with pytest.raises(SubmitFailed, match=said) as refused:
        submit(connect())
    assert refused.value.kind is kind
    assert service.jobs == {}


def test_a_quota_that_is_too_small_is_refused_at_once(service, connect, submit, tmp_path):
    service.quotas["NVIDIA_L4"] = 1
    backend = connect()
    options = Options(
        gpu=2,
        image="image",
        storage={"uri": (tmp_path / "bucket").as_uri()},
        platform={"region": "us-central1", "accelerator": "NVIDIA_L4"},
    )
    job = Job(model="tiny", run="r1", key="train", stage="train", action="train", command=("true",))
    with pytest.raises(
        SubmitFailed, match=r"custom_model_training_nvidia_l4_gpus.* quota of project p1 raised"
    ) as refused:
        backend.submit(backend.build_request(job, options))
    assert (refused.value.kind, refused.value.retryable) == (FailureKind.QUOTA, True)


def test_a_job_that_waits_for_its_quota_says_so_and_is_ended_in_time(service, connect, submit, monkeypatch):
    service.queued = True
    backend = connect()
    handle = submit(backend, platform={"start_within_seconds": 60})
    status = backend.describe(handle)
    assert (status.state, status.waiting) == (
        JobState.PENDING,
        "Vertex AI has queued it: a quota of the project may be used up",
    )
    (job,) = service.jobs.values()
    job.document["createTime"] = "2020-01-01T00:00:00Z"
    assert backend.describe(handle).state is JobState.PENDING, "this process knows of it for a moment alone"
    later = time.monotonic() + 61
    monkeypatch.setattr("modelway.backends.vertex.inspect.time.monotonic", lambda: later)
    status = backend.describe(handle)
    assert (status.failure, job.state) == (FailureKind.UNSCHEDULABLE, "CANCELLED")
    assert "no machine took it within 1m" in status.reason
    assert submit(backend, platform={"start_within_seconds": 60}).attempt == 2


@pytest.mark.parametrize(("strategy", "limit"), [("FLEX_START", "2h"), ("STANDARD", "1m")])
def test_a_job_of_flex_start_may_wait_for_machines_as_long_as_its_section_says(
    service, connect, submit, monkeypatch, strategy, limit
):
    service.prepare_seconds = float("inf")
    backend = connect()
    own = {"max_wait_seconds": 7200} if strategy == "FLEX_START" else {}
    platform = {"strategy": strategy, "accelerator": "NVIDIA_L4", "start_within_seconds": 60, **own}
    handle = submit(backend, platform=platform, gpu=1)
    (job,) = service.jobs.values()
    job.document["createTime"] = "2020-01-01T00:00:00Z"
    assert backend.describe(handle).state is JobState.PENDING
    now = time.monotonic()
    monkeypatch.setattr("modelway.backends.vertex.inspect.time.monotonic", lambda: now + 61)
    if strategy == "FLEX_START":
        assert backend.describe(handle).state is JobState.PENDING
        monkeypatch.setattr("modelway.backends.vertex.inspect.time.monotonic", lambda: now + 7210)
    status = backend.describe(handle)
    assert (status.failure, job.state) == (FailureKind.UNSCHEDULABLE, "CANCELLED")
    assert f"no machine took it within {limit}" in status.reason


def test_a_stockout_is_reported_with_what_to_do(service, connect, submit):
    service.stockout = True
    backend = connect()
    status = ended(backend, submit(backend))
    assert status.failure is FailureKind.UNSCHEDULABLE
    assert "insufficient in region: us-central1" in status.reason
    assert "choose another vertex.region" in status.reason


def test_an_image_that_is_not_there_is_reported(service, connect, submit):
    service.missing_images.add("eu-docker.pkg.dev/p1/jobs/none:1")
    backend = connect()
    status = ended(backend, submit(backend, image="eu-docker.pkg.dev/p1/jobs/none:1"))
    assert status.failure is FailureKind.IMAGE_PULL
    assert "eu-docker.pkg.dev/p1/jobs/none:1" in status.reason
    assert "service agent may read its repository" in status.reason


@pytest.mark.parametrize("fault", [503, 401, 403, 404, NOT_DONE, CUT])
def test_an_api_that_refuses_this_process_says_nothing_of_the_job(fake, service, connect, submit, fault):
    backend = connect()
    handle = submit(backend)
    fake.fail("*", fault, times=9)
    assert backend.describe(handle).state is JobState.UNKNOWN
    with pytest.raises(SubmitFailed):
        submit(backend)
    fake._faults.clear()
    assert backend.describe(handle).state is JobState.RUNNING
    assert submit(backend) == handle


def test_a_state_that_is_newer_than_modelway_ends_nothing(connect, submit, job_of):
    backend = connect()
    handle = submit(backend)
    job_of(handle).document["state"] = "JOB_STATE_BRAND_NEW"
    status = backend.describe(handle)
    assert status.state is JobState.RUNNING
    assert "BRAND_NEW" in status.waiting


def test_a_cancelled_job_stays_cancelled_however_often_and_from_wherever(service, connect, submit, job_of):
    backend, elsewhere = connect(), connect("elsewhere")
    handle = submit(backend)
    elsewhere.cancel(Handle.from_dict(json.loads(json.dumps(handle.to_dict()))))
    for each in (elsewhere, backend, connect("late")):
        each.cancel(handle)
        assert each.describe(handle).state is JobState.CANCELLED
    assert len(service.fake.calls(CANCEL)) == 1
    assert submit(backend).attempt == 2


@pytest.mark.parametrize("refused", [Refused(400, "It is over."), Refused(409, "It is over."), 404])
def test_a_job_that_is_over_is_cancelled_whatever_vertex_ai_says_to_that(
    fake, service, connect, submit, job_of, refused
):
    backend = connect()
    job = job_of(submit(backend))
    fake.fail(CANCEL, refused)
    if refused != 404:
        with pytest.raises(SubmitFailed, match="It is over"):
            backend.jobs.cancel(job.document["name"])
        fake.fail(CANCEL, refused)
    service.stop(job, "SUCCEEDED", 0, "", at_once=True)
    wait_for(lambda: job.state == "SUCCEEDED", seconds=60, what="its end")
    backend.jobs.cancel(job.document["name"])


def test_a_job_that_somebody_cancels_on_vertex_ai_is_reported(service, connect, submit, job_of):
    backend = connect()
    handle = submit(backend)
    backend.jobs.cancel(job_of(handle).document["name"])
    status = ended(backend, handle)
    assert (status.failure, status.retryable) == (FailureKind.KILLED, True)
    assert "by somebody else" in status.reason


def test_a_job_is_ended_where_the_store_cannot_be_read(fake, service, connect, submit, monkeypatch):
    """A scheduler may have no credentials for it."""
    handle = submit(connect())

    def refused(*given, **more):
        raise PermissionError("Access denied")

    monkeypatch.setattr("modelway.backends.folders.object_store.fetch_named", refused)
    connect("scheduler").cancel(handle)
    (job,) = service.jobs.values()
    assert job.state == "CANCELLED"


def test_jobs_that_outlived_their_run_are_found_in_each_region(service, connect, submit, monkeypatch):
    backend = connect()
    here = submit(backend)
    there = submit(backend, key="other", platform={"region": "europe-west4"})
    submit(backend, run="r2")
    assert sorted(backend.unfinished(run="r1"), key=lambda one: one.name) == sorted(
        [here, there], key=lambda one: one.name
    )
    elsewhere = connect("elsewhere")
    assert elsewhere.unfinished(run="r1") == []
    monkeypatch.setenv("MODELWAY_VERTEX_PLACES", "p1/us-central1, p1/europe-west4")
    assert len(elsewhere.unfinished(run="r1")) == 2
    service.fake.fail(LIST, 403)
    assert backend.unfinished(run="r1") == [here], "one place refuses, the other is searched all the same"
    service.fake.fail(LIST, 403, times=2)
    with pytest.raises(SubmitFailed, match="was refused"):
        backend.unfinished(run="r1")
    backend.cancel(there)
    assert backend.unfinished(run="r1") == [here]


def test_a_folder_that_was_removed_is_begun_anew_whatever_is_left_on_vertex_ai(
    service, connect, submit, job_of, tmp_path
):

    backend = connect()
    handle = submit(backend)
    service.stop(job_of(handle), "SUCCEEDED", 0, "", at_once=True)
    wait_for(lambda: job_of(handle).state == "SUCCEEDED", seconds=60, what="its end")
    shutil.rmtree(tmp_path / "bucket")
    again = submit(backend)
    assert (again.place, again.attempt) == (handle.place, 2)
    assert backend.describe(again).state is JobState.RUNNING


def test_credentials_without_a_project_need_one_in_the_spec(fake, tmp_path, submit):
    backend = load_backend("vertex", home=tmp_path / "home", client=fake.connection(project=""))
    with pytest.raises(CapabilityMissing, match=r"Set vertex\.project in the spec"):
        submit(backend)
    assert submit(backend, platform={"project": "p2-project"}).mark.startswith("p2-project/us-central1/")
    backend.api.close()
