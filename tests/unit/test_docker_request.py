"""What the backend docker sends to an engine, and what it makes of the answers: as data, without an engine."""

import json

import pytest
from modelway.backends.base import Handle, Job, JobState, Options
from modelway.backends.docker.backend import DockerBackend
from modelway.backends.docker.status import moment, status_of
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.docker.engine import translate_errors

JOB = Job(model="digits", run="digits/manual__1", key="train.warmup", stage="warmup", action="train", seed=3)


@pytest.fixture
def backend(tmp_path):
    backend = DockerBackend(home=tmp_path)
    vars(backend.engine)["info"] = {"NCPU": 8, "Runtimes": {"runc": {}, "nvidia": {}}}
    return backend


def body(backend, **options):
    return backend.build_request(JOB, Options(**options)).container(generation=2, attempt=5)


def test_everything_that_is_asked_for_is_in_the_request(backend):
    sent = body(
        backend,
        cpu=1.5,
        memory_bytes=2 << 30,
        gpu=2,
        image="house/train:7",
        timeout_seconds=600,
        processes_per_node=2,
        platform={
            "network": "lab",
            "env": {"LEVEL": "debug"},
            "shared_memory_bytes": 1 << 30,
            "grace_seconds": 45,
            "keep_seconds": 7200,
        },
    )
    host = sent["HostConfig"]
    assert sent["Image"] == "house/train:7"
    assert host["NanoCpus"] == 1_500_000_000
    assert (host["Memory"], host["MemorySwap"]) == (2 << 30, 2 << 30), "no swap beyond the memory"
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]
    assert (host["NetworkMode"], host["ShmSize"]) == ("lab", 1 << 30)
    assert {"LEVEL=debug", "OMP_NUM_THREADS=1", "PYTHONHASHSEED=3"} <= set(sent["Env"])
    assert sent["StopTimeout"] == 45
    words = sent["Cmd"][2:]
    assert words[:3] == ["/modelway-given", "/modelway/job", "5"]
    reported = dict(zip(words[3::2], words[4::2], strict=True))
    assert reported == {
        "--node": "0",
        "--processes": "2",
        "--grace": "45",
        "--memory": str(2 << 30),
        "--timeout": "600",
    }
    assert sent["Labels"]["modelway.dev/keep"] == "7200"


def test_a_container_has_no_rights_and_no_file_of_the_engines_machine(backend):
    host = body(backend)["HostConfig"]
    assert "Binds" not in host
    assert [mount["Type"] for mount in host["Mounts"]] == ["volume"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert body(backend)["User"] == "1000:1000"
    assert host["LogConfig"]["Type"] == "json-file", "whatever the engine's own setting is"
    assert "Memory" not in host
    assert "DeviceRequests" not in host


def test_names_are_the_same_for_the_same_job_and_tell_generations_and_tries_apart(backend):
    request = backend.build_request(JOB, Options())
    assert request.volume(2) == backend.build_request(JOB, Options(cpu=1)).volume(2)
    assert request.volume(2) != request.volume(3)
    labels = request.container(generation=2, attempt=5)["Labels"]
    assert labels["modelway.dev/name"] == JOB.name(5)
    assert labels["modelway.dev/volume"] == request.volume(2)
    assert (labels["modelway.dev/model"], labels["modelway.dev/run"]) == ("digits", "digits/manual__1")
    assert all(isinstance(value, str) for value in labels.values())


def test_the_storages_path_is_where_jobs_see_their_folder(backend):
    sent = body(backend, storage={"path": "/data", "claim": "shared"})
    assert sent["HostConfig"]["Mounts"][0]["Target"] == "/data"
    assert "/data/job" in sent["Cmd"]


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"nodes": 2}, "2 nodes requested, the backend 'docker' has one engine"),
        ({"disk_bytes": 1 << 30}, "resources.disk"),
        ({"gpu": 1, "gpu_type": "amd.com/gpu"}, "amd.com/gpu requested"),
        ({"cpu": 9}, "9 CPU cores requested, the engine's machine has 8"),
    ],
)
def test_what_an_engine_cannot_give_is_refused_by_name(backend, options, reported):
    with pytest.raises(CapabilityMissing, match=reported):
        backend.build_request(JOB, Options(**options))


def test_gpus_need_an_engine_with_the_runtime_for_them(backend):
    vars(backend.engine)["info"] = {"NCPU": 8, "Runtimes": {"runc": {}}}
    with pytest.raises(CapabilityMissing, match="its engine has no runtime nvidia"):
        backend.build_request(JOB, Options(gpu=1))


def inspected(status="exited", *, code=0, error="", out_of_memory=False, memory=0):
    return {
        "State": {
            "Status": status,
            "Running": status in ("running", "paused"),
            "ExitCode": code,
            "Error": error,
            "OOMKilled": out_of_memory,
            "StartedAt": "2026-11-21T10:00:00.5Z",
            "FinishedAt": "2026-11-21T10:00:02.75Z",
        },
        "HostConfig": {"Memory": memory},
    }


SAID = {"kind": None, "reason": None, "seconds": 1.5, "peak_memory_bytes": 7, "stopped": False}
RAISED = {**SAID, "kind": "bad_exit", "reason": "ValueError: no"}


@pytest.mark.parametrize(
    ("engine", "report", "kind", "reason"),
    [
        (inspected(code=1), RAISED, FailureKind.BAD_EXIT, "ValueError: no"),
        (inspected(code=137), None, FailureKind.KILLED, "the container was killed by SIGKILL"),
        (
            inspected(code=137, out_of_memory=True, memory=100 << 20),
            None,
            FailureKind.OUT_OF_MEMORY,
            "out of memory: the kernel killed the container, the limit is 100 MiB",
        ),
        (
            inspected(code=137, out_of_memory=True),
            None,
            FailureKind.NODE_OUT_OF_MEMORY,
            "out of memory: the kernel killed the container of the engine's machine",
        ),
        (
            inspected(code=255),
            None,
            FailureKind.NODE_LOST,
            "the engine or its machine went down while the job ran",
        ),
        (
            inspected(code=2),
            None,
            FailureKind.INIT,
            "the container ended with exit status 2 before the job's code began",
        ),
        (
            inspected(
                "created", code=127, error='OCI runtime create failed: exec: "python3": not found in $PATH: unknown'
            ),
            None,
            FailureKind.INIT,
            'the engine could not start the container: exec: "python3": not found in $PATH',
        ),
    ],
)
def test_failures_are_distinguished(engine, report, kind, reason):
    status = status_of(engine, report=report, cancelled=False)
    assert (status.state, status.failure, status.reason) == (JobState.FAILED, kind, reason)


def test_a_container_that_ends_well_without_the_agents_word_is_no_success():
    assert status_of(inspected(), report=SAID, cancelled=False).state is JobState.SUCCEEDED
    assert status_of(inspected(), report=None, cancelled=False).state is JobState.FAILED


def test_a_job_that_ended_before_it_was_cancelled_has_succeeded():
    assert status_of(inspected(), report=SAID, cancelled=True).state is JobState.SUCCEEDED
    assert status_of(inspected(code=1), report=RAISED, cancelled=True).state is JobState.CANCELLED
    assert status_of(inspected("created"), report=None, cancelled=True).state is JobState.CANCELLED


def test_what_the_agent_knows_better_about_a_retry_holds():
    reported = {**SAID, "kind": "init", "reason": "pip had no network", "retryable": True}
    status = status_of(inspected(code=2), report=reported, cancelled=False)
    assert (status.failure, status.retryable) == (FailureKind.INIT, True)


def test_the_moments_of_the_engine_are_read():
    assert moment("0001-01-01T00:00:00Z") is None
    assert moment("2026-11-21T10:00:00.25Z") == 1795255200.25
    assert moment("2026-11-21T10:00:00Z") == 1795255200


class Answer:
    """What the SDK's errors read of an HTTP answer."""

    def __init__(self, status):
        self.status_code, self.reason, self.url = status, "said so", "http://engine"


def refused(status, text="no"):
    import docker.errors

    return docker.errors.APIError("x", response=Answer(status), explanation=json.dumps({"message": text}))


@pytest.mark.parametrize(
    ("make", "kind", "retryable"),
    [
        (lambda: refused(403), FailureKind.FORBIDDEN, False),
        (lambda: refused(400), FailureKind.REFUSED, False),
        (lambda: refused(500), FailureKind.UNREACHABLE, True),
        (lambda: refused(500, "write /x: no space left on device"), FailureKind.QUOTA, True),
        (lambda: PermissionError(13, "Permission denied"), FailureKind.FORBIDDEN, False),
        (lambda: ConnectionRefusedError(111, "refused"), FailureKind.UNREACHABLE, True),
    ],
)
def test_refusals_and_silence_are_distinguished(make, kind, retryable):
    with pytest.raises(SubmitFailed) as reported, translate_errors():
        raise make()
    assert (reported.value.kind, reported.value.retryable) == (kind, retryable)


def test_a_socket_without_permission_is_reported_however_the_sdk_wraps_it(tmp_path):
    import docker.errors

    wrapped = docker.errors.DockerException(
        "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
    )
    with pytest.raises(SubmitFailed, match="this user may not use the Docker engine") as reported, translate_errors():
        raise wrapped
    assert reported.value.kind is FailureKind.FORBIDDEN


def test_the_log_of_a_job_that_is_over_is_not_empty_because_the_engine_is_unavailable(tmp_path):
    """Who follows the job would take an empty answer for the end of the log."""
    away = DockerBackend(home=tmp_path, client="tcp://127.0.0.1:1")
    handle = Handle(backend="docker", name="job", place="volume", attempt=1)
    assert away.logs(handle, offset=7) == ("", 7)
    (tmp_path / "jobs-docker" / "volume" / "try-1" / "result.json").write_text('{"container": "c", "status": {}}')
    with pytest.raises(SubmitFailed, match="does not answer"):
        away.logs(handle, offset=7)
