"""Jobs of a real cluster whose folders lie on S3: pods have nothing but the URI and the credentials of a Secret."""

import json
import os
import re
from dataclasses import replace

import pytest
from modelway.backends.base import JOB_IMAGE, Handle, Job, JobState, Options
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.contract import recorded_checkpoints

from tests.job_folders import ended, store_code, store_text, succeeded, wait_for
from tests.kubernetes_cluster import PYTHON_IMAGE, kubectl
from tests.s3_server import LOGIN, MISSING, own_address, s3_server

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason="S3 needs an environment of its own: tests/object_store_environment.py"
)
SECONDS = 120
BUCKET = "jobs"
#: one checkpoint a step; waits after the third until the object that ``params`` name is there
STEPS = """
import fsspec, time
def train(job):
    fs = fsspec.filesystem('s3', skip_instance_cache=True)
    found = job.resume_from()
    print('waiting', flush=True)
    for step in range((found.step if found else 0) + 1, 6):
        with job.checkpoint(step=step) as path: path.write_text(str(step))
        while step == 3:
            fs.invalidate_cache()
            if fs.exists(job.params['go']): break
            time.sleep(0.2)
    (job.output / 'made.txt').write_text('made')
"""


@pytest.fixture(scope="module")
def endpoint(client):
    (address, *_) = [
        each["address"]
        for node in json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        if node["status"]["nodeInfo"]["kubeletVersion"]
        for each in node["status"]["addresses"]
        if each["type"] == "InternalIP"
    ]
    with s3_server(own_address(address)) as url:
        yield url


@pytest.fixture
def store(endpoint, monkeypatch):
    import s3fs

    for name, value in {**LOGIN, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(endpoint_url=endpoint)
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return fs


@pytest.fixture(scope="module")
def secret(namespace):
    words = [f"--from-literal={key}={value}" for key, value in LOGIN.items()]
    kubectl("create", "secret", "generic", "s3", "-n", namespace, *words)
    return {name: {"secret": "s3", "key": name} for name in LOGIN}


@pytest.fixture
def options(namespace, endpoint, secret):
    platform = {"namespace": namespace, "grace_seconds": 5, "env": {**secret, "AWS_ENDPOINT_URL": endpoint}}
    storage = {"path": "/modelway", "uri": f"s3://{BUCKET}/some/prefix"}
    return Options(cpu=0.5, memory_bytes=600 << 20, image=JOB_IMAGE, storage=storage, platform=platform)


@pytest.fixture
def connect(client, store, tmp_path):
    """Make a backend as a worker elsewhere has it: with a home of its own."""

    def made(name="home"):
        return KubernetesBackend(home=tmp_path / name, client=client)

    return made


@pytest.fixture
def jobs(connect, options, tmp_path, request):
    handles = []

    def submit(code=STEPS, *, options=options, backend=None, **fields):
        backend = backend or connect()
        go = f"{BUCKET}/go-{request.node.name}"
        asked = {"model": "tiny", "run": request.node.name, "key": "train", "stage": "train", "action": "train"}
        package = store_code(tmp_path / "source", code)
        job = Job(**{**asked, "module": "tiny.py", "code": package, "params": {"go": go}, **fields})
        handles.append(backend.submit(backend.build_request(job, options)))
        return handles[-1]

    yield submit
    for handle in handles:
        connect().cancel(handle)


@pytest.fixture
def go(store, request):
    return lambda: store.pipe_file(f"{BUCKET}/go-{request.node.name}", b"go")


def has_checkpoints(backend, handle, count):
    wait_for(
        lambda: len(recorded_checkpoints(backend.folder(handle))) >= count, seconds=SECONDS, what="the checkpoints"
    )


def objects(namespace, handle):
    selector = f"modelway.dev/try={handle.name}"
    found = json.loads(kubectl("get", "jobs,pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def test_workers_that_share_nothing_follow_one_job_to_its_end(jobs, connect, go, namespace, tmp_path):
    here, elsewhere = connect(), connect("elsewhere")
    run = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
    given = {"inputs": {"checkpoint": store_text(tmp_path / "input", "before")}}
    handle = jobs(backend=here, **given)
    assert re.fullmatch(rf"s3://{BUCKET}/some/prefix/jobs/tiny/[a-z0-9-]+/train/g0", handle.place)
    assert Handle.from_dict(json.loads(json.dumps(handle.to_dict()))) == handle
    assert jobs(backend=elsewhere, **given) == handle, "a worker that was killed is followed by another machine's"
    assert elsewhere.unfinished(run=run) == [handle]
    wait_for(lambda: "waiting" in elsewhere.logs(handle)[0], seconds=SECONDS, what="the job's first line")
    has_checkpoints(elsewhere, handle, 3)
    assert elsewhere.describe(handle).state is JobState.RUNNING
    text = json.dumps(objects(namespace, handle))
    assert LOGIN["AWS_SECRET_ACCESS_KEY"] not in re.findall(r'"value": "([^"]*)"', text), "it is in the Secret alone"
    go()
    status = succeeded(here, handle, seconds=SECONDS)
    assert status.peak_memory_bytes > 1_000_000
    kubectl("delete", "job", "-n", namespace, handle.name)
    late = connect("late")
    assert late.describe(handle) == status, "its end is known when the cluster has forgotten it"
    folder = late.folder(handle)
    assert [each.path.read_text() for each in recorded_checkpoints(folder)] == ["1", "2", "3", "4", "5"]
    assert (folder / "output" / "made.txt").read_text() == "made"
    assert late.logs(handle) == elsewhere.logs(handle)
    assert late.logs(handle)[0] == "waiting\n"
    assert jobs(backend=late, **given) == handle, "what is done is not done again"
    assert late.unfinished(run=run) == []
    again = jobs(backend=elsewhere, clear_number=1, **given)
    assert (again.place[:-2], again.attempt) == (handle.place[:-2], 2)
    succeeded(elsewhere, again, seconds=SECONDS)


def test_a_job_whose_pod_is_killed_continues_from_the_stores_last_checkpoint(jobs, connect, go, namespace):
    backend = connect()
    handle = jobs()
    has_checkpoints(backend, handle, 3)
    wait_for(lambda: backend.describe(handle).state is JobState.RUNNING, seconds=SECONDS, what="that it runs")
    selector = f"modelway.dev/try={handle.name}"
    kubectl("delete", "pod", "-n", namespace, "-l", selector, "--force", "--grace-period=0", "--wait=false")
    status = ended(backend, handle, seconds=SECONDS)
    assert (status.failure, status.retryable) == (FailureKind.EVICTED, True), status
    backend.cancel(handle)
    assert objects(namespace, handle) == []
    go()
    elsewhere = connect("elsewhere")
    again = jobs(backend=elsewhere)
    assert (again.place, again.attempt) == (handle.place, 2)
    succeeded(elsewhere, again, seconds=SECONDS)
    assert "resuming from checkpoint train-000003" in elsewhere.logs(again)[0]
    assert [each.step for each in recorded_checkpoints(elsewhere.folder(again))] == [1, 2, 3, 4, 5]


def test_a_job_is_cancelled_from_anywhere_and_leaves_nothing(jobs, connect, namespace):
    handle = jobs()
    has_checkpoints(connect(), handle, 3)
    connect("elsewhere").cancel(handle)
    assert objects(namespace, handle) == []
    assert connect().describe(handle).state is JobState.CANCELLED
    assert connect("late").describe(handle).state is JobState.CANCELLED
    assert jobs(backend=connect("late")).attempt == 2


def test_an_image_that_cannot_read_the_store_is_reported(jobs, connect, options):
    handle = jobs(options=replace(options, image=PYTHON_IMAGE))
    status = ended(connect(), handle, seconds=SECONDS)
    assert status.failure is FailureKind.INIT
    assert "needs fsspec and s3fs" in status.reason


def test_a_bucket_that_is_not_there_is_reported_before_anything_is_created(jobs, connect, options):
    with pytest.raises(SubmitFailed, match="no-such-bucket") as refused:
        jobs(options=replace(options, storage={"path": "/modelway", "uri": "s3://no-such-bucket/x"}))
    assert refused.value.kind is FailureKind.REFUSED


def test_several_nodes_are_refused_by_name(jobs, options):
    with pytest.raises(CapabilityMissing, match="object store"):
        jobs(options=replace(options, nodes=2))


def test_a_store_that_is_unavailable_makes_no_job_lost(jobs, connect, monkeypatch):
    import s3fs

    handle = jobs()
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        s3fs.S3FileSystem.clear_instance_cache()
        status = connect("elsewhere").describe(handle)
    s3fs.S3FileSystem.clear_instance_cache()
    assert status.state is JobState.UNKNOWN
    assert handle.place in status.reason
