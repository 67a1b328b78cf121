"""An attempt as a container: the body of the engine's request, the same for the same job and options.

Source: the Docker Engine API's reference, ``POST /containers/create``, version 1.41.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from modelway import names
from modelway.backends.base import Job, Options
from modelway.backends.folders import generations
from modelway.backends.variables import job_variables

GROUP = "modelway.dev"
MANAGED = f"{GROUP}/managed"
DEPLOYMENT = f"{GROUP}/deployment"
#: the job's inputs are in the container's own files: only what the job writes is in the volume
INPUTS = "/modelway-given"
USER = 1000
PIDS = 8192
GRACE_SECONDS = 30
KEEP_SECONDS = 86_400
#: lines must not be lost, whatever the engine's own settings are; the container is removed with its log
LOG = {"Type": "json-file", "Config": {"max-size": "1000g", "mode": "blocking"}}
#: the container's first program: links the inputs beside what the job writes; it is the only user of the folder
_BOOTSTRAP = """
import glob, os, shutil, sys
given, folder, attempt, *words = sys.argv[1:]
if os.path.exists(f"{folder}/try-{attempt}/cancelled"): sys.exit(143)
for name in ("code", "inputs", "runner"):
    if os.path.lexists(f"{folder}/{name}"): os.unlink(f"{folder}/{name}")
    os.symlink(f"{given}/{name}", f"{folder}/{name}")
shutil.copyfile(f"{given}/job.json", f"{folder}/job.json")
os.makedirs(f"{folder}/output", exist_ok=True)
for left in glob.glob(f"{folder}/try-*/pods"): shutil.rmtree(left)
os.environ["PYTHONPATH"] = f"{folder}/runner"
os.execv(sys.executable, [sys.executable, "-m", "modelway.job.agent", folder, "--attempt", attempt, *words])
"""


@dataclass(frozen=True, kw_only=True)
class DockerRequest:
    """What will be created: everything but the numbers of generation and attempt, and the deployment, is fixed here."""

    job: Job
    options: Options
    contract: Mapping[str, Any]
    image: str

    @property
    def mount(self) -> str:
        """Where the container sees the volume."""
        return str((self.options.storage or {}).get("path") or "/modelway")

    @property
    def folder(self) -> str:
        """The job's folder as the container sees it."""
        return str(PurePosixPath(self.mount) / "job")

    @property
    def contract_digest(self) -> str:
        """The digest that distinguishes one piece of work from another."""
        return digest(generations.text(self.contract))

    def name(self, attempt: int, *, deployment: str = "") -> str:
        """Return the name of an attempt's container."""
        # One engine has each name once, and another Airflow may have a run of the same name.
        run = f"{deployment}: {self.job.run}" if deployment else self.job.run
        return replace(self.job, run=run).name(attempt)

    def volume(self, generation: int, *, deployment: str = "") -> str:
        """Return the name of a generation's volume."""
        return f"{self.name(0, deployment=deployment).removesuffix('-0')}-g{generation}"

    def volume_labels(self, generation: int, *, deployment: str = "") -> dict[str, str]:
        """Return the labels of a volume: its job, deployment, generation and piece of work."""
        return {
            **job_labels(self.job),
            **({DEPLOYMENT: deployment} if deployment else {}),
            f"{GROUP}/generation": str(generation),
            f"{GROUP}/contract": self.contract_digest,
            f"{GROUP}/clear": str(self.job.clear_number),
            f"{GROUP}/keep": str(self.options.platform.get("keep_seconds", KEEP_SECONDS)),
        }

    def container(
        self, *, generation: int = 0, attempt: int = 1, volume: str | None = None, deployment: str = ""
    ) -> dict[str, Any]:
        """Return the body of the request that creates an attempt's container.

        :param volume: of the generation, where it was created under another name
        """
        options, platform = self.options, self.options.platform
        volume = volume or self.volume(generation, deployment=deployment)
        return {
            "Image": self.image,
            "Entrypoint": ["python3"],
            "Cmd": ["-c", _BOOTSTRAP, INPUTS, self.folder, str(attempt), *self._flags()],
            "User": f"{USER}:{USER}",
            "WorkingDir": "/",
            "Env": [f"{name}={value}" for name, value in sorted(self._environment().items())],
            "StopTimeout": platform.get("grace_seconds", GRACE_SECONDS),
            "Labels": {
                **self.volume_labels(generation, deployment=deployment),
                f"{GROUP}/name": self.name(attempt, deployment=deployment),
                f"{GROUP}/attempt": str(attempt),
                f"{GROUP}/volume": volume,
                f"{GROUP}/folder": self.folder,
                f"{GROUP}/timeout": str(options.timeout_seconds or ""),
            },
            "HostConfig": {
                "Mounts": [{"Type": "volume", "Source": volume, "Target": self.mount}],
                "RestartPolicy": {"Name": "no"},
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": PIDS,
                "LogConfig": LOG,
                **self._limits(),
                **({"NetworkMode": platform["network"]} if platform.get("network") else {}),
            },
        }

    def _flags(self) -> list[str]:
        options = self.options
        flags = ["--node", "0", "--processes", str(options.processes_per_node)]
        flags += ["--grace", str(options.platform.get("grace_seconds", GRACE_SECONDS))]
        flags += ["--memory", str(options.memory_bytes)] if options.memory_bytes else []
        return flags + (["--timeout", str(options.timeout_seconds)] if options.timeout_seconds else [])

    def _limits(self) -> dict[str, Any]:
        options, found = self.options, dict[str, Any]()
        if options.memory_bytes:
            # Without swap: a job that swaps seems alive and makes no progress.
            found |= {"Memory": options.memory_bytes, "MemorySwap": options.memory_bytes}
        if options.cpu:
            found["NanoCpus"] = round(options.cpu * 1e9)
        if shared := options.platform.get("shared_memory_bytes"):
            found["ShmSize"] = shared
        if options.gpu:
            found["DeviceRequests"] = [{"Driver": "", "Count": options.gpu, "Capabilities": [["gpu"]]}]
        return found

    def _environment(self) -> dict[str, str]:
        return {
            **({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}),
            **job_variables(self.job, self.options),
            "HOME": "/tmp",
            "MODELWAY_IMAGE": self.image,
            **self.options.platform.get("env", {}),
        }


def digest(text: str) -> str:
    """Return a short digest for a label."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def run_labels(*, run: str) -> dict[str, str]:
    """Return the labels of everything that belongs to one run."""
    return {MANAGED: "yes", f"{GROUP}/run": run}


def job_labels(job: Job) -> dict[str, str]:
    """Return the labels of everything that belongs to one job."""
    key = digest("\0".join((job.model, job.run, job.key)))
    own = {f"{GROUP}/model": job.model, f"{GROUP}/stage": names.slug(job.key), f"{GROUP}/job": key}
    return {**run_labels(run=job.run), **own}


def is_of_deployment(labels: Mapping[str, str], deployment: str | None) -> bool:
    """Whether a container or volume is of this deployment, or of a version that did not label it."""
    return labels.get(DEPLOYMENT) in (None, deployment)
