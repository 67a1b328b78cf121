"""Vertex AI's custom jobs, with the rules that Google's documentation and public issues describe.

A job is QUEUED or PENDING until its machines are there, RUNNING while its containers run, which are processes of this
machine, and then over. Jobs are never found by a name of the caller's, and two requests make two jobs.
"""

import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.google.fake import Call, GoogleFake, Refused
from tests.google.lists import filtered, page_of
from tests.google.vertex_machines import Replica, cluster_spec, free_port, store_variables, wait_until

_ID = "aiplatform.projects.locations.customJobs"
#: of a project by its id
NUMBER = "123456789012"
OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,63}"), re.compile(r"[a-z0-9_-]{0,64}")
#: how often a worker that ends badly begins again, unless disableRetries forbids it
RESTARTS = 5
STOCKOUT = "Resources are insufficient in region: {region}. Try a different region or use a different accelerator."
CANCELLED_CODE, FAILED_CODE = 1, 3
#: how many of a container's last lines are part of its job's error
PRINTED_LINES = 10


@dataclass
class FakeJob:
    """A custom job as the service knows it."""

    document: dict[str, Any]
    token: str
    due: float = 0.0
    replicas: list[Replica] = field(default_factory=list)
    ending: bool = False
    """whether something else than its containers' own end decides how it ends"""
    restarts: int = 0
    beginnings: int = 0

    @property
    def state(self) -> str:
        return str(self.document["state"]).removeprefix("JOB_STATE_")


class VertexJobs:
    """The service."""

    def __init__(
        self,
        fake: GoogleFake,
        *,
        machines: Path | None = None,
        python: Path | None = None,
        store: Mapping[str, str] | None = None,
    ) -> None:
        """Register the handlers.

        :param machines: where the containers' folders are; None: jobs run without any container
        :param python: what images have as python3; None: the one that runs this
        :param store: variables that lead containers to a Cloud Storage; None: those of this process
        """
        self.fake, self._machines = fake, machines
        self._python, self._store = python or Path(sys.executable), store
        self.jobs: dict[str, FakeJob] = {}
        self.prepare_seconds = 0.0
        """how long a job is PENDING, on the fake's clock"""
        self.grace_seconds = 1.0
        """what a container has between SIGTERM and SIGKILL, in seconds of this machine"""
        self.list_lag_seconds = 0.0
        """how long a new job is missing in lists"""
        self.quotas: dict[str, int] = {}
        """accelerator → how many of them a project may request"""
        self.queued = False
        """whether a quota that is used up keeps new jobs in the queue"""
        self.stockout = False
        """whether there are no machines"""
        self.missing_images: set[str] = set()
        self.broken_images: dict[str, str] = {}
        """image → what its container prints before it ends with the status 2"""
        self.denied: str | None = None
        """what the caller is not permitted to do"""
        self.page = 1000
        """jobs of one page at most"""
        self._ids = 0
        for name in ("create", "get", "list", "cancel"):
            fake.handle(f"{_ID}.{name}", getattr(self, f"_{name}"))
        fake.handle("logging.entries.list", self._entries)

    # The methods

    def _create(self, call: Call) -> Mapping[str, Any]:
        """CreateCustomJob."""
        body, parent = call.body, call.names["parent"]
        if self.denied:
            raise Refused(403, f"Permission '{self.denied}' denied on resource '//aiplatform.googleapis.com/{parent}'")
        self._check(body)
        self._check_quota(body)
        self._ids += 1
        project, _, region = parent.removeprefix("projects/").partition("/locations/")
        now = self.fake.clock.stamp()
        document = {
            **body,
            "name": f"projects/{NUMBER}/locations/{region}/customJobs/{9_000_000_000_000_000_000 + self._ids}",
            "state": "JOB_STATE_QUEUED" if self.queued else "JOB_STATE_PENDING",
            "createTime": now,
            "updateTime": now,
        }
        job = FakeJob(document, body.get("labels", {}).get("modelway-token", ""))
        job.due = self.fake.clock.now() + self.prepare_seconds
        job.document["_project"] = project
        self.jobs[document["name"]] = job
        self._settle()
        return self._answer(job)

    def _get(self, call: Call) -> Mapping[str, Any]:
        """GetCustomJob."""
        return self._answer(self._job(call.names["name"]))

    def _list(self, call: Call) -> Mapping[str, Any]:
        """ListCustomJobs: the newest first."""
        self._settle()
        project, _, region = call.names["parent"].removeprefix("projects/").partition("/locations/")
        youngest = self.fake.clock.stamp(self.fake.clock.now() - self.list_lag_seconds)
        there = [
            job.document
            for job in self.jobs.values()
            if f"/locations/{region}/" in job.document["name"]
            and project in (NUMBER, job.document["_project"])
            and job.document["createTime"] <= youngest
        ]
        found = filtered(there[::-1], call.query.get("filter", ""))
        answer = page_of(found, key="customJobs", query=call.query, most=self.page)
        mask = call.query.get("readMask", "")
        if "customJobs" in answer:
            answer["customJobs"] = [_masked(each, mask) for each in answer["customJobs"]]
        return answer

    def _cancel(self, call: Call) -> Mapping[str, Any]:
        """CancelCustomJob: it answers before the job has ended."""
        job = self._job(call.names["name"])
        if job.state in OVER:
            what = f"CustomJob {call.names['name']} is in state JOB_STATE_{job.state} and cannot be cancelled."
            raise Refused(400, what, code="FAILED_PRECONDITION")
        if job.state in ("QUEUED", "PENDING"):
            self._end(job, "CANCELLED", CANCELLED_CODE, "CANCELED")
        elif job.state != "CANCELLING":
            self._set(job, "CANCELLING")
            self.stop(job, "CANCELLED", CANCELLED_CODE, "CANCELED")
        return {}

    def _entries(self, call: Call) -> Mapping[str, Any]:
        """ListLogEntries of a job's primary replica, by the filter's job id."""
        found = re.search(r'resource\.labels\.job_id="(\d+)"', call.body.get("filter", ""))
        job = next((one for name, one in self.jobs.items() if found and name.endswith(f"/{found[1]}")), None)
        lines = job.replicas[0].text().splitlines() if job and job.replicas else []
        entries = [{"insertId": f"{number:06d}", "textPayload": line} for number, line in enumerate(lines)]
        if call.body.get("orderBy") == "timestamp desc":
            entries.reverse()
        return {"entries": entries[: int(call.body.get("pageSize") or 50)]}

    # What tests do to jobs

    def of_token(self, token: str) -> list[FakeJob]:
        """Return the jobs of an attempt, oldest first."""
        return [job for job in self.jobs.values() if job.token == token]

    def stop(self, job: FakeJob, state: str, code: int, message: str, *, at_once: bool = False) -> None:
        """End a job's containers from outside; the job then has that state and error."""
        job.ending = True

        def end() -> None:
            if not at_once:
                for replica in job.replicas:
                    replica.terminate()
                wait_until(lambda: all(one.poll() is not None for one in job.replicas), seconds=self.grace_seconds)
            for replica in job.replicas:
                replica.kill()
            with self.fake.lock:
                self._end(job, state, code, message)

        threading.Thread(target=end, daemon=True).start()

    def preempt(self, job: FakeJob) -> None:
        """Take a spot machine away."""
        region = job.document["name"].split("/")[3]
        self.stop(job, "FAILED", 8, STOCKOUT.format(region=region))

    def out_of_memory(self, job: FakeJob) -> None:
        """Have the kernel end a container."""
        text = "The replica workerpool0-0 ran out of memory and exited with a non-zero status of 137."
        self.stop(job, "FAILED", FAILED_CODE, text, at_once=True)

    def maintain(self, job: FakeJob) -> None:
        """Restart the worker of a job as maintenance of its machine does: the same job, another container."""
        with self.fake.lock:
            job.ending = True
            for replica in job.replicas:
                replica.kill()
            self._start(job)

    def close(self) -> None:
        """End whatever still runs."""
        for job in list(self.jobs.values()):
            job.ending = True
            for replica in job.replicas:
                replica.kill()

    # The rules

    def _check(self, body: Mapping[str, Any]) -> None:
        labels = body.get("labels", {})
        if len(labels) > 64 or not all(map(_LABEL_KEY.fullmatch, labels)):
            raise Refused(400, "Label keys must start with a letter and have at most 64 of a-z, 0-9, _ and -.")
        if not all(map(_LABEL_VALUE.fullmatch, labels.values())):
            raise Refused(400, "Label values must have at most 64 of a-z, 0-9, _ and -.")
        if len(body["displayName"]) > 128:
            raise Refused(400, "display_name has more than 128 characters.")
        pools = body["jobSpec"]["workerPoolSpecs"]
        if str(pools[0].get("replicaCount")) != "1":
            raise Refused(400, "The first worker pool must have exactly one replica.")
        for pool in pools:
            if not pool.get("machineSpec", {}).get("machineType"):
                raise Refused(400, "machine_spec.machine_type is required.")
            if "imageUri" not in pool.get("containerSpec", {}):
                raise Refused(400, "container_spec.image_uri is required.")
            if len(pool["containerSpec"].get("env", ())) > 100:
                raise Refused(400, "At most 100 environment variables can be specified.")
        scheduling = body["jobSpec"].get("scheduling", {})
        if "maxWaitDuration" in scheduling and scheduling.get("strategy") != "FLEX_START":
            raise Refused(400, "max_wait_duration needs the strategy FLEX_START.")

    def _check_quota(self, body: Mapping[str, Any]) -> None:
        for pool in body["jobSpec"]["workerPoolSpecs"]:
            machine = pool["machineSpec"]
            kind, count = machine.get("acceleratorType"), machine.get("acceleratorCount", 0)
            if kind in self.quotas and count * int(pool["replicaCount"]) > self.quotas[kind]:
                metric = f"aiplatform.googleapis.com/custom_model_training_{kind.lower()}_gpus"
                raise Refused(429, f"The following quota metrics exceed quota limits: {metric}")

    def _job(self, name: str) -> FakeJob:
        self._settle()
        parts = name.split("/")
        job = self.jobs.get(f"projects/{NUMBER}/{'/'.join(parts[2:])}")
        if job is None or parts[1] not in (NUMBER, job.document["_project"]):
            raise Refused(404, f"The CustomJob {name} does not exist.")
        return job

    def _settle(self) -> None:
        now = self.fake.clock.now()
        for job in list(self.jobs.values()):
            if job.state == "QUEUED" and not self.queued:
                self._set(job, "PENDING")
            if job.state == "PENDING" and job.due <= now:
                self._begin(job)

    def _begin(self, job: FakeJob) -> None:
        """Give a job its machines, or say why there are none."""
        region = job.document["name"].split("/")[3]
        image = job.document["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"]
        if self.stockout:
            self._end(job, "FAILED", 8, STOCKOUT.format(region=region))
        elif image in self.missing_images:
            text = f"Failed to pull image {image}: the Vertex AI service agent cannot access it, or it does not exist."
            self._end(job, "FAILED", FAILED_CODE, text)
        else:
            job.document["startTime"] = self.fake.clock.stamp()
            self._set(job, "RUNNING")
            if self._machines is not None:
                self._start(job)

    def _start(self, job: FakeJob) -> None:
        pools = job.document["jobSpec"]["workerPoolSpecs"]
        counts = {f"workerpool{number}": int(pool["replicaCount"]) for number, pool in enumerate(pools)}
        if not job.replicas:
            root = self._folder(job)
            job.replicas = [
                Replica(
                    spec=self._contained(pool["containerSpec"]),
                    pool=number,
                    index=index,
                    root=root / f"{number}-{index}",
                    token=job.token,
                    python=self._python,
                    variables=store_variables() if self._store is None else self._store,
                )
                for number, pool in enumerate(pools)
                for index in range(int(pool["replicaCount"]))
            ]
        of = cluster_spec(counts, port=free_port())
        for replica in job.replicas:
            replica.start(of(replica.name))
        job.ending = False
        job.beginnings += 1
        threading.Thread(target=self._watch, args=(job, job.beginnings), daemon=True).start()

    def _contained(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a container runs: its command, unless its image is broken."""
        said = self.broken_images.get(spec["imageUri"])
        return spec if said is None else {**spec, "command": ["sh", "-c", 'echo "$0"; exit 2', said], "args": []}

    def _folder(self, job: FakeJob) -> Path:
        """Return a folder for a job's machines, which says in its path which job of ours it is."""
        assert self._machines is not None
        args = job.document["jobSpec"]["workerPoolSpecs"][0]["containerSpec"].get("args", ())
        place = next((word.partition("/jobs/")[2] for word in args if "://" in word), "others")
        return self._machines / place / job.document["name"].rpartition("/")[2]

    def _watch(self, job: FakeJob, beginning: int) -> None:
        """Wait for the containers' own end, which decides how the job ends."""

        def decided() -> bool:
            codes = [one.poll() for one in job.replicas]
            return job.ending or job.beginnings != beginning or codes[0] == 0 or any(codes)

        wait_until(decided, seconds=float("inf"))
        with self.fake.lock:
            if job.ending or job.beginnings != beginning:
                return
            failed = None if job.replicas[0].poll() == 0 else next(one for one in job.replicas if one.poll())
            retries = not job.document["jobSpec"].get("scheduling", {}).get("disableRetries")
            for replica in job.replicas:
                # The primary has done its work: the others are shut down.
                replica.kill()
            if failed is None:
                self._end(job, "SUCCEEDED")
            elif retries and job.restarts < RESTARTS:
                job.restarts += 1
                self._start(job)
            else:
                text = f"The replica {failed.name} exited with a non-zero status of {failed.poll()}."
                # As Google's message: the last lines that the container printed follow.
                printed = "\n".join(failed.text().splitlines()[-PRINTED_LINES:])
                self._end(job, "FAILED", FAILED_CODE, f"{text} Termination reason: Error. \n{printed}")

    def _end(self, job: FakeJob, state: str, code: int = 0, message: str = "") -> None:
        if code:
            job.document["error"] = {"code": code, "message": message}
        job.document["endTime"] = self.fake.clock.stamp()
        self._set(job, state)

    def _set(self, job: FakeJob, state: str) -> None:
        job.document["state"], job.document["updateTime"] = f"JOB_STATE_{state}", self.fake.clock.stamp()

    @staticmethod
    def _answer(job: FakeJob) -> dict[str, Any]:
        return _masked(job.document, "")


def _masked(document: Mapping[str, Any], mask: str) -> dict[str, Any]:
    wanted = mask.split(",") if mask else document.keys()
    return {key: value for key, value in document.items() if key in wanted and not key.startswith("_")}
