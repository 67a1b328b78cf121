"""A job as a CustomJob of Vertex AI: plain data, the same for the same job and options.

Sources: the discovery document aiplatform.v1 (CustomJobSpec, WorkerPoolSpec, Scheduling) and Vertex AI, "Distributed
training": the first pool has one replica, the primary; the second has the others, on the same machine type.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelway.backends.base import Job, Options
from modelway.backends.folders import object_store
from modelway.backends.variables import job_variables
from modelway.backends.vertex.labels import attempt_labels
from modelway.backends.vertex.rules import FLEX_START_SECONDS
from modelway.platforms.google.machines import GIB, MachineSpec

Document = dict[str, Any]

#: the job's folder in its container, which runs one job
FOLDER = "/tmp/modelway-job"
LEAST_DISK_GIB = 100
MOST_NAME = 128
#: the agent enforces the timeout; a job whose agent is gone is ended so much later
BACKSTOP_SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What names one attempt of a job and says where its folder is."""

    job: Job
    options: Options
    image: str
    machine: MachineSpec
    uri: str
    """the folder of its generation on the object store"""
    attempt: int
    token: str | None = None
    """distinguishes this attempt from one of the same name that another Airflow made"""
    deployment: str | None = None


def custom_job(one: Attempt) -> Document:
    """Return the body of the request that creates an attempt's job."""
    platform, options = one.options.platform, one.options
    pool: Document = {
        "machineSpec": _machine(one),
        "diskSpec": _disk(one),
        "containerSpec": _container(one),
    }
    pools = [{**pool, "replicaCount": "1"}]
    if options.nodes > 1:
        pools.append({**pool, "replicaCount": str(options.nodes - 1)})
    spec: Document = {
        "workerPoolSpecs": pools,
        "scheduling": _scheduling(one),
        "serviceAccount": platform.get("service_account"),
        "network": platform.get("network"),
        "persistentResourceId": platform.get("persistent_resource"),
    }
    own = attempt_labels(one.job, attempt=one.attempt, token=one.token, deployment=one.deployment)
    body: Document = {
        "displayName": f"{one.job.model} {one.job.stage} {one.job.run} {one.attempt}"[:MOST_NAME],
        "labels": {**platform.get("labels", {}), **own},
        "jobSpec": {key: value for key, value in spec.items() if value is not None},
    }
    if key := platform.get("kms_key"):
        body["encryptionSpec"] = {"kmsKeyName": key}
    return body


def _machine(one: Attempt) -> Document:
    machine: Document = {"machineType": one.machine.machine_type}
    if one.machine.gpus:
        machine |= {"acceleratorType": one.machine.accelerator, "acceleratorCount": one.machine.gpus}
    if reservation := one.options.platform.get("reservation"):
        machine["reservationAffinity"] = {
            "reservationAffinityType": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [reservation],
        }
    return machine


def _disk(one: Attempt) -> Document:
    kind = one.options.platform.get("disk_type")
    size = max(LEAST_DISK_GIB, math.ceil((one.options.disk_bytes or 0) / GIB))
    return {"bootDiskSizeGb": size, **({"bootDiskType": kind} if kind else {})}


def _container(one: Attempt) -> Document:
    options = one.options
    flags = ["--attempt", str(one.attempt), "--grace", str(options.platform.get("grace_seconds", 30))]
    if options.nodes > 1:
        # Which node it is, and where node 0 is, follows from CLUSTER_SPEC.
        flags += ["--nodes", str(options.nodes)]
    if options.processes_per_node > 1:
        flags += ["--processes", str(options.processes_per_node)]
    if options.memory_bytes:
        # The machine has more: the limit is the agent's.
        flags += ["--memory", str(options.memory_bytes), "--enforce-memory"]
    if options.timeout_seconds:
        flags += ["--timeout", str(options.timeout_seconds)]
    command = object_store.command(uri=one.uri, folder=FOLDER, flags=flags)
    return {"imageUri": one.image, "command": command[:3], "args": command[3:], "env": _environment(one)}


def _environment(one: Attempt) -> list[Document]:
    variables: Mapping[str, str] = {
        "HOME": "/tmp",
        "MODELWAY_IMAGE": one.image,
        **({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}),
        **job_variables(one.job, one.options),
        **one.options.platform.get("env", {}),
    }
    # $(NAME) would be expanded.
    return [{"name": name, "value": value.replace("$(", "$$(")} for name, value in variables.items()]


def _scheduling(one: Attempt) -> Document:
    platform, timeout = one.options.platform, one.options.timeout_seconds
    strategy = platform.get("strategy", "STANDARD")
    # Attempts are counted by the spec's own rules.
    scheduling: Document = {"strategy": strategy, "disableRetries": True, "restartJobOnWorkerRestart": False}
    if timeout:
        seconds = timeout + BACKSTOP_SECONDS
        # Vertex AI refuses more.
        scheduling["timeout"] = f"{min(seconds, FLEX_START_SECONDS) if strategy == 'FLEX_START' else seconds}s"
    if strategy == "FLEX_START":
        wait = platform.get("max_wait_seconds") or platform.get("start_within_seconds", 3600)
        scheduling["maxWaitDuration"] = f"{wait}s"
    return scheduling
