"""What is sent to Kubernetes, as data: by the job, its options and the server's version."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Job, Options
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.backends.kubernetes.request import KubernetesRequest
from modelway.backends.variables import THREADS
from modelway.errors import CapabilityMissing
from modelway.platforms.kubernetes.patch import strategic_merge, unknown_directives

OLD, NEW = (1, 20), (1, 30)
CLAIM = {"path": "/data", "claim": "jobs"}
LAUNCHERS = ("jobset", "trainjob", "pytorchjob", "tfjob")


def request(*, version: tuple[int, int] = NEW, key: str = "train", **options: Any) -> KubernetesRequest:
    """Build a request of the model `digits`; no server is asked."""
    asked = {"storage": CLAIM, "image": "example.org/train:1", "platform": {"run_as": 1234, "namespace": "ml"}}
    job = Job(model="digits", run="dag/manual__1", key=key, stage="train", action="train", seed=7)
    backend = KubernetesBackend(home=Path("/nowhere"), version=version)
    return backend.build_request(job, Options(**{**asked, **options}))


def manifests(**given: Any) -> list[dict[str, Any]]:
    return request(**given).manifests(generation=0, attempt=1)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(manifest)["containers"]
    assert isinstance(container, dict)
    return container


def on(**platform: Any) -> dict[str, Any]:
    """Return the options that have these keys of the section kubernetes."""
    return {"platform": {"run_as": 1234, "namespace": "ml", **platform}}


def test_a_job_runs_once_under_a_name_that_the_same_try_always_has() -> None:
    (job,) = manifests()
    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", "ml")
    assert job["spec"]["backoffLimit"] == 0
    assert pod_of(job)["restartPolicy"] == "Never"
    assert job == manifests()[0]
    names = {request().manifests(attempt=number)[0]["metadata"]["name"] for number in (1, 2, 12)}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)


def test_labels_find_a_run_and_a_try_and_are_valid() -> None:
    (job,) = manifests(key="evaluate/a very long item " + "x" * 80)
    labels = job["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "modelway"
    assert all(len(value) <= 63 for value in labels.values())
    assert job["spec"]["template"]["metadata"]["labels"] == labels
    assert job["metadata"]["annotations"]["modelway.dev/run"] == "dag/manual__1"


def test_a_pod_may_do_nothing_that_its_work_does_not_need() -> None:
    (job,) = manifests()
    assert (
        pod_of(job)["securityContext"]
        | {
            "runAsNonRoot": True,
            "runAsUser": 1234,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        == pod_of(job)["securityContext"]
    )
    assert container_of(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod_of(job)["automountServiceAccountToken"] is False


def test_resources_are_asked_for_and_limited_alike() -> None:
    (job,) = manifests(cpu=1.5, memory_bytes=2**30, disk_bytes=5 * 2**30, gpu=2, gpu_type="amd.com/gpu")
    found = container_of(job)["resources"]
    assert found["requests"] == found["limits"]
    assert found["limits"] == {
        "cpu": "1500m",
        "memory": str(2**30),
        "ephemeral-storage": str(5 * 2**30),
        "amd.com/gpu": "2",
    }
    assert container_of(manifests()[0])["resources"] == {}


def test_every_library_that_starts_threads_keeps_to_the_cores_that_a_job_has() -> None:
    (job,) = manifests(cpu=2.5)
    variables = {each["name"]: each.get("value") for each in container_of(job)["env"]}
    assert {variables.get(name) for name in THREADS} == {"2"}
    (job,) = manifests()
    assert not set(THREADS) & {each["name"] for each in container_of(job)["env"]}, "no limit, as many threads as cores"


@pytest.mark.parametrize(
    ("storage", "source"),
    [
        ({"claim": "jobs"}, {"persistentVolumeClaim": {"claimName": "jobs"}}),
        ({"nfs": {"server": "files", "path": "/e"}}, {"nfs": {"server": "files", "path": "/e"}}),
        ({"node": {"name": "n1", "path": "/srv"}}, {"hostPath": {"path": "/srv", "type": "Directory"}}),
    ],
)
def test_of_the_storage_only_the_jobs_own_folder_is_mounted(storage: dict[str, Any], source: dict[str, Any]) -> None:
    (job,) = manifests(storage={"path": "/data", **storage})
    assert {"name": "storage", **source} in pod_of(job)["volumes"]
    folder = container_of(job)["args"][0]
    assert folder.startswith("/data/jobs/digits/")
    mounts = [mount for mount in container_of(job)["volumeMounts"] if mount["name"] == "storage"]
    inside = folder.removeprefix("/data/")
    assert mounts == [
        {"name": "storage", "mountPath": folder, "subPath": inside},
        {"name": "storage", "mountPath": f"{folder}/inputs", "subPath": f"{inside}/inputs", "readOnly": True},
    ]
    selector = {"kubernetes.io/hostname": "n1"} if "node" in storage else None
    assert pod_of(job).get("nodeSelector") == selector


def test_what_the_section_kubernetes_says_is_in_the_pod() -> None:
    (job,) = manifests(
        **on(
            service_account="trainer",
            image_pull_secrets=("login",),
            node_selector={"disk": "ssd"},
            tolerations=({"key": "gpu", "operator": "Exists"},),
            affinity={"nodeAffinity": {}},
            priority_class="high",
            runtime_class="nvidia",
            env={"A": "1", "B": {"secret": "s", "key": "k"}, "C": {"config_map": "m", "key": "k"}},
            files={"/etc/x": {"secret": "s", "key": None}},
            volumes=({"path": "/more", "source": {"emptyDir": {}}, "read_only": True},),
            shared_memory_bytes=2**20,
            keep_seconds=60,
            queue="team",
        )
    )
    pod, container = pod_of(job), container_of(job)
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("trainer", True)
    assert pod["imagePullSecrets"] == [{"name": "login"}]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("high", "nvidia")
    given = {each["name"]: each for each in container["env"]}
    assert given["A"]["value"] == "1"
    assert given["B"]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert given["C"]["valueFrom"] == {"configMapKeyRef": {"name": "m", "key": "k"}}
    assert {"name": "files-0", "mountPath": "/etc/x", "readOnly": True} in container["volumeMounts"]
    assert {"name": "volume-0", "mountPath": "/more", "readOnly": True} in container["volumeMounts"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(2**20)}} in pod["volumes"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 60
    assert (job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], job["spec"]["suspend"]) == ("team", True)
    assert "schedulingGates" not in pod


def test_the_agent_keeps_the_timeout_and_kubernetes_stands_behind_it() -> None:
    (job,) = manifests(timeout_seconds=100, **on(start_within_seconds=50))
    arguments = container_of(job)["args"]
    assert arguments[arguments.index("--timeout") + 1] == "100"
    assert job["spec"]["activeDeadlineSeconds"] == 150
    assert "activeDeadlineSeconds" not in manifests()[0]["spec"]


@pytest.mark.parametrize(
    ("version", "policy", "replacement"), [(OLD, False, False), ((1, 26), True, False), ((1, 29), True, True)]
)
def test_newer_servers_are_reported_what_a_disruption_is(
    version: tuple[int, int], policy: bool, replacement: bool
) -> None:
    (job,) = manifests(version=version)
    assert ("podFailurePolicy" in job["spec"], "podReplacementPolicy" in job["spec"]) == (policy, replacement)


def test_several_nodes_are_one_indexed_job_and_its_service() -> None:
    job, service = manifests(version=(1, 24), nodes=3, processes_per_node=2)
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 3, 3)
    name = job["metadata"]["name"]
    arguments = container_of(job)["args"]
    assert arguments[arguments.index("--rendezvous") + 1] == f"{name}-0.{name}:29400"
    assert (arguments[arguments.index("--nodes") + 1], arguments[arguments.index("--processes") + 1]) == ("3", "2")
    assert "--node" not in arguments, "the index is the node's number"
    assert pod_of(job)["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert len(f"{name}-2") <= 63


def test_several_nodes_below_1_24_are_two_jobs_and_a_service() -> None:
    first, others, service = manifests(version=(1, 23), nodes=3)
    assert [each["kind"] for each in (first, others, service)] == ["Job", "Job", "Service"]
    assert (first["spec"]["completions"], others["spec"]["completions"]) == (1, 2)
    assert all("completionMode" not in each["spec"] for each in (first, others))
    arguments = container_of(first)["args"], container_of(others)["args"]
    assert [words[words.index("--node") + 1] for words in arguments] == ["0", "any"]
    name = service["metadata"]["name"]
    assert {words[words.index("--rendezvous") + 1] for words in arguments} == {f"node-0.{name}:29400"}
    assert (pod_of(first)["hostname"], pod_of(first)["subdomain"]) == ("node-0", name)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_other_launchers_start_the_same_pod(launcher: str) -> None:
    found = manifests(nodes=2, memory_bytes=2**30, **on(launcher=launcher, priority_class="high"))
    pods = list(pod_specs(found))
    assert pods
    (plain,) = manifests(memory_bytes=2**30, **on(priority_class="high"))
    for pod in pods:
        (container,) = pod["containers"]
        assert container["image"] == "example.org/train:1"
        assert container["resources"] == container_of(plain)["resources"]
        assert container["volumeMounts"] == container_of(plain)["volumeMounts"]
        assert pod["priorityClassName"] == "high"
        assert pod["securityContext"] == pod_of(plain)["securityContext"]
        assert container["args"][container["args"].index("--nodes") + 1] == "2"
    for each in found:
        assert each["metadata"]["labels"]["modelway.dev/try"] == plain["metadata"]["labels"]["modelway.dev/try"]
        assert len(each["metadata"]["name"]) <= 40, "controllers make longer names of it"


def pod_specs(value: Any) -> Any:
    """Yield everything in some manifests that is a pod's specification."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for each in value.values():
            yield from pod_specs(each)
    elif isinstance(value, list):
        for each in value:
            yield from pod_specs(each)


@pytest.mark.parametrize(("launcher", "first"), [("pytorchjob", "Master"), ("tfjob", "Chief")])
def test_kubedl_tells_its_first_node_from_the_others(launcher: str, first: str) -> None:
    (found,) = manifests(nodes=4, **on(launcher=launcher))
    (groups,) = (value for key, value in found["spec"].items() if key.endswith("ReplicaSpecs"))
    assert {name: group["replicas"] for name, group in groups.items()} == {first: 1, "Worker": 3}
    words = {name: group["template"]["spec"]["containers"][0]["args"] for name, group in groups.items()}
    assert [words[name][words[name].index("--node") + 1] for name in (first, "Worker")] == ["0", "any"]
    host = f"{found['metadata']['name']}-{first.lower()}-0:29400"
    assert all(each[each.index("--rendezvous") + 1] == host for each in words.values())


def test_a_train_job_has_its_runtime_before_it() -> None:
    runtime, train_job = manifests(nodes=2, **on(launcher="trainjob"))
    assert (runtime["kind"], train_job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert train_job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert train_job["spec"]["trainer"]["numNodes"] == 2


def test_a_patch_has_the_last_word() -> None:
    patch = {
        "spec": {
            "backoffLimit": 3,
            "template": {
                "spec": {
                    "hostNetwork": True,
                    "containers": [{"name": "job", "env": [{"name": "HOME", "value": "/home/x"}]}, {"name": "more"}],
                    "enableServiceLinks": None,
                }
            },
        }
    }
    (job,) = manifests(**on(patch=patch))
    containers = pod_of(job)["containers"]
    assert job["spec"]["backoffLimit"] == 3
    assert pod_of(job)["hostNetwork"] is True
    assert "enableServiceLinks" not in pod_of(job)
    assert [each["name"] for each in containers] == ["job", "more"]
    assert containers[0]["image"] == "example.org/train:1"
    assert [each["value"] for each in containers[0]["env"] if each["name"] == "HOME"] == ["/home/x"]
    assert manifests() == manifests(), "what a patch changes is a copy"


def test_a_merge_removes_what_it_is_requested_to() -> None:
    base = {"volumes": [{"name": "a", "x": 1}, {"name": "b"}], "args": ["1", "2"], "kept": {"y": 1}}
    patch = {"volumes": [{"name": "a", "$patch": "delete"}, {"name": "c"}], "args": ["3"], "kept": {"z": 2}}
    merged = strategic_merge(base, patch)
    assert merged == {"volumes": [{"name": "b"}, {"name": "c"}], "args": ["3"], "kept": {"y": 1, "z": 2}}
    assert base["args"] == ["1", "2"]


def test_a_request_is_comparable_and_shows_what_it_is() -> None:
    assert request() == request()
    assert request() != request(cpu=1)
    assert "digits" in repr(request())
    assert dataclasses.is_dataclass(request())


def test_a_patch_that_two_tries_share_is_not_changed_by_one() -> None:
    asked = request(**on(patch={"metadata": {"annotations": {"a": "b"}}}))
    first, second = (asked.manifests(attempt=number)[0]["metadata"] for number in (1, 2))
    first["annotations"]["c"] = "d"
    assert "c" not in second["annotations"]
    assert second["annotations"]["a"] == "b"


def test_a_merge_obeys_its_directives() -> None:
    base = {"volumes": [{"name": "a"}, {"name": "b"}], "kept": {"x": 1, "y": 2}, "gone": {"x": 1}}
    replaced = strategic_merge(base, {"kept": {"$patch": "replace", "z": 3}, "gone": {"$patch": "delete"}})
    assert (replaced["kept"], replaced["gone"]) == ({"z": 3}, {})
    assert strategic_merge(base, {"volumes": [{"$patch": "replace"}, {"name": "c"}]})["volumes"] == [{"name": "c"}]
    absent = [{"name": "not-there", "$patch": "delete"}, {"name": "b", "x": None, "y": 1}]
    assert strategic_merge(base, {"volumes": absent})["volumes"] == [{"name": "a"}, {"name": "b", "y": 1}]
    new = strategic_merge(
        {}, {"env": [{"name": "A", "$patch": "delete"}], "new": {"a": None, "b": {"$patch": "delete"}}}
    )
    assert new == {"env": [], "new": {"b": {}}}, "what is new has neither directives nor nothing in it"


def test_what_a_merge_does_not_know_is_found() -> None:
    patch = {
        "spec": {
            "$retainKeys": ["a"],
            "volumes": [{"name": "a", "$patch": "delete"}, {"name": "b", "$patch": "merge"}],
        },
        "$setElementOrder/volumes": [],
    }
    found = set(unknown_directives(patch))
    assert found == {("spec", "$retainKeys"), ("spec", "volumes", 1, "$patch"), ("$setElementOrder/volumes",)}


@pytest.mark.parametrize("launcher", ["jobset", "trainjob"])
def test_a_patch_lands_in_what_holds_the_pods(launcher: str) -> None:
    pods = {"spec": {"hostNetwork": True}}
    jobs = {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": pods}}}]}
    patch = {"spec": jobs if launcher == "jobset" else {"template": {"spec": jobs}}}
    found = manifests(**on(launcher=launcher, patch=patch))
    (pod,) = pod_specs(found)
    assert pod["hostNetwork"] is True
    assert pod["containers"][0]["image"] == "example.org/train:1"
    assert found[-1]["spec"].get("template") is None, "a TrainJob has no pods of its own"


@pytest.mark.parametrize("launcher", ["pytorchjob", "tfjob"])
def test_a_queue_that_a_launcher_does_not_know_is_refused(launcher: str) -> None:
    with pytest.raises(CapabilityMissing, match=f"a {launcher} cannot wait in one"):
        manifests(**on(launcher=launcher, queue="team"))


def test_a_queue_is_refused_where_the_server_starts_jobs_at_once() -> None:
    with pytest.raises(CapabilityMissing, match=r"Kubernetes 1\.20 starts jobs at once"):
        manifests(version=OLD, **on(queue="team"))
    (job,) = manifests(version=(1, 21), **on(queue="team"))
    assert job["spec"]["suspend"] is True


def test_all_that_is_added_when_it_is_sent_is_a_label() -> None:
    (printed,) = manifests()
    (sent,) = request().manifests(generation=0, attempt=1, token="t1")
    assert sent["metadata"]["labels"].pop("modelway.dev/token") == "t1"
    assert sent["spec"]["template"]["metadata"]["labels"].pop("modelway.dev/token") == "t1"
    assert sent == printed


def test_a_folder_on_an_object_store_is_fetched_by_the_container() -> None:
    (job,) = manifests(storage={"path": "/data", "uri": "s3://models/some/"}, timeout_seconds=60)
    container = container_of(job)
    uri = re.search(r"s3://models/some/jobs/digits/[^/]+/train/g0", container["args"][0])
    assert uri
    assert container["args"][0] == uri[0]
    assert container["args"][1] == f"/data/{uri[0].removeprefix('s3://models/some/')}"
    assert container["args"][container["args"].index("--timeout") + 1] == "60"
    assert "prepared.tar" in container["command"][2]
    assert {"name": "storage", "emptyDir": {}} in pod_of(job)["volumes"]
    assert job["metadata"]["annotations"]["modelway.dev/folder"] == f"{uri[0]}/try-1"
    with pytest.raises(CapabilityMissing, match="an object store"):
        manifests(storage={"path": "/data", "uri": "s3://models/some"}, nodes=2)
