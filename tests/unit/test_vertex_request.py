"""What is sent to Vertex AI for a job: its machines, its pools, its scheduling; the same for the same job."""

import json

import pytest
from modelway.backends.base import Job, Options, load_backend
from modelway.errors import CapabilityMissing
from modelway.job.agent.cluster import Place, place_of
from modelway.platforms.google.machines import ACCELERATORS, GENERAL, WITH_GPUS, machine_for

from tests.google import documents

GIB = 1 << 30
JOB = Job(model="digits", run="digits/manual__2026-01-31T00:00:00", key="train", stage="train", action="train")


def machine(**needs):
    return machine_for(**{"cpu": None, "memory_bytes": None, "gpu": 0, **needs})


@pytest.mark.parametrize(
    ("needs", "chosen"),
    [
        ({}, "e2-highmem-2"),
        ({"cpu": 4}, "e2-standard-4"),
        ({"cpu": 4, "memory_bytes": 20 * GIB}, "e2-highmem-4"),
        ({"cpu": 96, "memory_bytes": 500 * GIB}, "n1-highmem-96"),
        ({"memory_bytes": 3000 * GIB}, "m1-ultramem-160"),
        ({"gpu": 1, "accelerator": "NVIDIA_L4"}, "g2-standard-4"),
        ({"gpu": 1, "accelerator": "NVIDIA_L4", "memory_bytes": 40 * GIB}, "g2-standard-12"),
        ({"gpu": 2, "accelerator": "NVIDIA_L4"}, "g2-standard-24"),
        ({"gpu": 8, "accelerator": "NVIDIA_H100_80GB"}, "a3-highgpu-8g"),
        ({"gpu": 2, "accelerator": "NVIDIA_TESLA_T4", "cpu": 8}, "n1-standard-8"),
        ({"machine_type": "n2-standard-8"}, "n2-standard-8"),
        ({"machine_type": "a3-ultragpu-8g", "gpu": 8}, "a3-ultragpu-8g"),
        # newer than the table
        ({"machine_type": "z9-standard-8", "cpu": 8}, "z9-standard-8"),
    ],
)
def test_the_smallest_machine_that_has_what_a_job_needs_is_chosen(needs, chosen):
    assert machine(**needs).machine_type == chosen


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"memory_bytes": 9000 * GIB}, "no machine type has 9000 GiB of memory: the largest, m1-ultramem-160"),
        ({"gpu": 1}, "on Vertex AI a GPU has a model. Set vertex.accelerator, such as NVIDIA_L4"),
        ({"gpu": 1, "machine_type": "z9-gpu-8"}, "on Vertex AI a GPU has a model"),
        ({"gpu": 3, "accelerator": "NVIDIA_L4"}, "machines with 1 or 2 or 4 or 8 of NVIDIA_L4"),
        ({"gpu": 1, "accelerator": "NVIDIA_L40"}, "NVIDIA_L40 is not known here. Known: NVIDIA_TESLA_T4"),
        ({"accelerator": "NVIDIA_L4"}, "NVIDIA_L4 requested, and no GPU"),
        ({"machine_type": "e2-standard-4", "memory_bytes": 17 * GIB}, "has 4 CPU cores and 16 GiB, the job needs 17"),
        ({"machine_type": "e2-standard-4", "gpu": 1, "accelerator": "NVIDIA_TESLA_T4"}, "e2-standard-4 cannot have 1"),
        ({"machine_type": "g2-standard-8", "gpu": 2}, "g2-standard-8 has 1 GPU, and the job requests 2"),
        ({"machine_type": "g2-standard-8", "gpu": 1, "accelerator": "NVIDIA_TESLA_T4"}, "model NVIDIA_L4, not NVIDIA"),
    ],
)
def test_what_no_machine_has_is_refused_with_what_to_do(needs, said):
    with pytest.raises(CapabilityMissing, match=said):
        machine(**needs)


def test_the_table_names_accelerators_as_the_api_does():
    schema = documents.methods("aiplatform")[0].schemas["GoogleCloudAiplatformV1MachineSpec"]
    assert set(ACCELERATORS) <= set(schema["properties"]["acceleratorType"]["enum"])
    names = [each.name for each in (*GENERAL, *WITH_GPUS)]
    assert len(names) == len(set(names))


def body(tmp_path, *, numbers=None, **options):
    platform = {"region": "us-central1", **options.pop("platform", {})}
    backend = load_backend("vertex", home=tmp_path / "home")
    options = Options(storage={"uri": "gs://bucket/prefix"}, platform=platform, image="image", **options)
    found = backend.build_request(JOB, options).body(**(numbers or {}), token="t1", deployment="d1")
    # As Google reads it: an unknown key, a wrong enum or a missing field is refused.
    documents.method("aiplatform.projects.locations.customJobs.create").check_body(json.loads(json.dumps(found)))
    return found


def test_a_job_of_one_node_is_one_pool_of_one_replica(tmp_path):
    found = body(tmp_path, cpu=4, memory_bytes=8 * GIB, disk_bytes=200 * GIB, timeout_seconds=60)
    (pool,) = found["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "e2-standard-4"}
    assert (pool["replicaCount"], pool["diskSpec"]) == ("1", {"bootDiskSizeGb": 200})
    container = pool["containerSpec"]
    assert (container["imageUri"], container["command"][:2]) == ("image", ["python3", "-c"])
    uri, _, *flags = container["args"]
    assert uri.startswith("gs://bucket/prefix/jobs/digits/")
    assert " ".join(flags[:8]) == "--attempt 1 --grace 30 --memory 8589934592 --enforce-memory --timeout"
    assert found["jobSpec"]["scheduling"] == {
        "strategy": "STANDARD",
        "disableRetries": True,
        "restartJobOnWorkerRestart": False,
        "timeout": "960s",
    }
    assert {"modelway-token": "t1", "modelway-deployment": "d1", "modelway": "job"}.items() <= found["labels"].items()


def test_several_nodes_are_a_pool_of_one_and_a_pool_of_the_others(tmp_path):
    platform = {"accelerator": "NVIDIA_H100_80GB", "strategy": "FLEX_START", "max_wait_seconds": 7200}
    found = body(tmp_path, nodes=4, gpu=8, processes_per_node=8, platform=platform)
    first, others = found["jobSpec"]["workerPoolSpecs"]
    assert (first["replicaCount"], others["replicaCount"]) == ("1", "3")
    assert {**first, "replicaCount": "3"} == others
    spec = {"machineType": "a3-highgpu-8g", "acceleratorType": "NVIDIA_H100_80GB", "acceleratorCount": 8}
    assert first["machineSpec"] == spec
    assert "--nodes 4 --processes 8" in " ".join(first["containerSpec"]["args"])
    assert found["jobSpec"]["scheduling"]["maxWaitDuration"] == "7200s"


@pytest.mark.parametrize(
    ("strategy", "timeout", "sent"),
    [("FLEX_START", 3600, 4500), ("FLEX_START", 7 * 86400, 7 * 86400), ("SPOT", 7 * 86400, 7 * 86400 + 900)],
)
def test_no_job_of_flex_start_requests_more_than_seven_days(tmp_path, strategy, timeout, sent):
    platform = {"strategy": strategy, "accelerator": "NVIDIA_L4"}
    found = body(tmp_path, gpu=1, platform=platform, timeout_seconds=timeout)
    assert found["jobSpec"]["scheduling"]["timeout"] == f"{sent}s"


@pytest.mark.parametrize(
    ("own", "machine", "strategy"),
    [
        ({"accelerator": "NVIDIA_L4", "strategy": "SPOT"}, "e2-highmem-2", "SPOT"),
        ({"machine_type": "a3-highgpu-8g", "strategy": "FLEX_START", "max_wait_seconds": 7200}, "e2-highmem-2", None),
        ({"machine_type": "n1-standard-8", "accelerator": "NVIDIA_TESLA_T4"}, "n1-standard-8", None),
        (
            {"machine_type": "z9-gpu-8", "accelerator": "NVIDIA_B200", "persistent_resource": "pool"},
            "e2-highmem-2",
            None,
        ),
        (
            {"accelerator": "NVIDIA_L4", "reservation": "projects/p/zones/r-a/reservations/x", "kms_key": "k"},
            "e2-highmem-2",
            None,
        ),
    ],
)
def test_a_job_without_gpus_has_a_machine_of_its_own_where_others_have_some(tmp_path, own, machine, strategy):
    """Such as the evaluation of what was trained on them: the section is all jobs' of a model."""
    found = body(tmp_path, platform=own)
    (pool,) = found["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": machine}
    scheduling = {"strategy": strategy or "STANDARD", "disableRetries": True, "restartJobOnWorkerRestart": False}
    assert found["jobSpec"]["scheduling"] == scheduling
    assert "persistentResourceId" not in found["jobSpec"]
    assert ("encryptionSpec" in found) == ("kms_key" in own), "the key is for every job"


def test_everything_that_only_vertex_ai_knows_is_in_the_request(tmp_path):
    key = "projects/p/locations/r/keyRings/k/cryptoKeys/c"
    platform = {
        "service_account": "jobs@p1.iam.gserviceaccount.com",
        "network": "projects/123/global/networks/jobs",
        "persistent_resource": "pool-1",
        "reservation": "projects/p1/zones/us-central1-a/reservations/r1",
        "disk_type": "pd-standard",
        "kms_key": key,
        "labels": {"team": "vision"},
        "env": {"GREETING": "hello $(HOME)"},
    }
    found = body(tmp_path, platform=platform)
    spec = found["jobSpec"]
    assert spec["serviceAccount"] == "jobs@p1.iam.gserviceaccount.com"
    assert (spec["network"], spec["persistentResourceId"]) == ("projects/123/global/networks/jobs", "pool-1")
    (pool,) = spec["workerPoolSpecs"]
    assert pool["machineSpec"]["reservationAffinity"]["values"] == [platform["reservation"]]
    assert pool["diskSpec"]["bootDiskType"] == "pd-standard"
    assert (found["encryptionSpec"], found["labels"]["team"]) == ({"kmsKeyName": key}, "vision")
    assert {"name": "GREETING", "value": "hello $$(HOME)"} in pool["containerSpec"]["env"], "$(…) would be expanded"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(storage={"uri": "gs://b"}), "needs a region"),
        (Options(platform={"region": "us-central1"}), "needs an object store"),
        (Options(platform={"region": "r"}, storage={"uri": "gs://b"}, gpu_type="amd.com/gpu"), "names GPUs by their"),
        (Options(platform={"region": "r"}, storage={"uri": "gs://b"}), "no image is named, .* Push it to Artifact Reg"),
        (
            Options(platform={"region": "r", "strategy": "FLEX_START"}, storage={"uri": "gs://b"}),
            "GPUs alone, and none",
        ),
    ],
)
def test_a_job_without_a_place_or_an_image_is_refused(tmp_path, monkeypatch, options, said):
    monkeypatch.delenv("MODELWAY_JOB_IMAGE", raising=False)
    with pytest.raises(CapabilityMissing, match=said):
        load_backend("vertex", home=tmp_path).build_request(JOB, options)


SPEC = {
    "cluster": {"workerpool1": ["b:1", "c:1"], "workerpool0": ["a:2222"]},
    "task": {"type": "workerpool1", "index": 1},
    "job": {"secret": "s3cret"},
}


def test_a_node_finds_its_place_in_the_cluster_spec():
    assert place_of({"CLUSTER_SPEC": json.dumps(SPEC)}) == Place(node=2, nodes=3, rendezvous="a:2222")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps({**SPEC, "task": {"type": "workerpool2", "index": 0}})]
)
def test_a_cluster_spec_that_says_nothing_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match="CLUSTER_SPEC") as refused:
        place_of({"CLUSTER_SPEC": text})
    assert "s3cret" not in str(refused.value)
