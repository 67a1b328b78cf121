"""What following many jobs on Kubernetes costs: CPU of the triggerer and requests to the API server.

``python bench/jobs/run.py [--jobs 200] [--seconds 120] [--settle 20]`` needs a cluster (KUBECONFIG). It makes a
namespace and a few nodes without machines (hollow.py), submits the jobs, whose pods are scheduled there and count as
running while each adds a line to its log every five seconds, and follows all of them by one JobTrigger each in one
process of asyncio, as a triggerer does (follow.py). It prints what that process used as a table, then as JSON. Requests
are those that leave the following process, counted in its HTTP client. The exit status is 1 when a job costs more than
2 requests in the window.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hollow import LABEL, PODS
from kubernetes import client, config
from modelway.backends.base import Handle, Job, Options, load_backend

HERE = Path(__file__).resolve().parent
TARGET_REQUESTS = 2.0
#: until all jobs run, and until all triggers have fired
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the jobs are."""

    namespace: str
    storage: Path
    home: Path
    jobs: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--settle", type=int, default=20, help="seconds of the followers' first look at everything")
    args = parser.parse_args()
    config.load_kube_config()
    with tempfile.TemporaryDirectory(prefix="bench-jobs-") as scratch, namespace() as name:
        storage = Path(scratch) / "storage"
        storage.mkdir()
        bench = Bench(namespace=name, storage=storage, home=Path(scratch) / "home", jobs=args.jobs)
        with hollow_nodes(bench):
            results = measure(bench, settle=args.settle, seconds=args.seconds)
    show(results)
    print(json.dumps(results))
    return 0 if results["requests_per_job"] <= TARGET_REQUESTS else 1


@contextmanager
def namespace() -> Iterator[str]:
    """Make a namespace and take it away with everything in it."""
    core, name = client.CoreV1Api(), f"bench-{uuid.uuid4().hex[:8]}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    try:
        yield name
    finally:
        core.delete_namespace(name)
        # The nodes are taken away after this, and their pods end only while they are there.
        wait_for(lambda: not core.list_namespaced_pod(name).items, "the pods' end")


@contextmanager
def hollow_nodes(bench: Bench) -> Iterator[None]:
    """Have nodes for the jobs, and take jobs and nodes away afterwards."""
    count = -(-bench.jobs // int(PODS))
    words = [bench.namespace, f"{bench.namespace}-node", str(count), str(bench.storage)]
    with subprocess.Popen([sys.executable, str(HERE / "hollow.py"), *words], stdin=subprocess.PIPE) as nodes:
        try:
            yield
            (bench.storage / "end").touch()
        finally:
            client.BatchV1Api().delete_collection_namespaced_job(bench.namespace, propagation_policy="Background")
            core = client.CoreV1Api()
            wait_for(lambda: not core.list_namespaced_pod(bench.namespace).items, "the pods' end")
            assert nodes.stdin is not None
            nodes.stdin.close()


def submit(bench: Bench) -> list[Handle]:
    """Submit the jobs, several at a time."""
    backend = load_backend("kubernetes", home=bench.home)
    options = Options(
        cpu=0.1,
        memory_bytes=1 << 28,
        image="bench",
        storage={"nfs": {"server": "nowhere", "path": "/"}, "path": "/modelway", "worker_path": str(bench.storage)},
        platform={
            "namespace": bench.namespace,
            "node_selector": {LABEL: "yes"},
            "tolerations": [{"key": LABEL, "operator": "Exists"}],
        },
    )

    def one(number: int) -> Handle:
        job = Job(
            model="bench",
            run=f"{bench.namespace}/{number}",
            key="train",
            stage="train",
            action="train",
            command=("sleep", "3600"),
        )
        return backend.submit(backend.build_request(job, options))

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(one, range(bench.jobs)))


def measure(bench: Bench, *, settle: int, seconds: int) -> dict[str, Any]:
    """Submit, follow and end the jobs; return what following cost."""
    began = time.monotonic()
    handles = submit(bench)
    submitted = time.monotonic() - began
    core = client.CoreV1Api()

    def running() -> bool:
        pods = core.list_namespaced_pod(bench.namespace).items
        return sum(pod.status.phase == "Running" for pod in pods) == bench.jobs

    wait_for(running, "all pods running")
    path = bench.home / "handles.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([handle.to_dict() for handle in handles]))
    words = [sys.executable, str(HERE / "follow.py"), str(path), str(bench.home)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
        # On a busy machine it may take long until it follows anything.
        wait_for(lambda: read_usage(follower)["requests"], "the first request")
        time.sleep(settle)
        first = read_usage(follower)
        time.sleep(seconds)
        last = read_usage(follower)
        (bench.storage / "end").touch()
        stopped = time.monotonic()
        wait_for(lambda: sum(read_usage(follower)["fired"].values()) == bench.jobs, "all triggers fired")
        ended = read_usage(follower)
        took = time.monotonic() - stopped
        follower.stdin.close()  # type: ignore[union-attr]
    return results(bench, seconds, first, last, ended) | {
        "submit_seconds": round(submitted, 1),
        "end_seconds": round(took, 1),
        "fired": ended["fired"],
    }


def read_usage(follower: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return what the follower has used so far."""
    assert follower.stdin is not None
    assert follower.stdout is not None
    follower.stdin.write("\n")
    follower.stdin.flush()
    usage: dict[str, Any] = json.loads(follower.stdout.readline())
    return usage


def results(
    bench: Bench, seconds: int, first: dict[str, Any], last: dict[str, Any], ended: dict[str, Any]
) -> dict[str, Any]:
    """Return what happened between the first reading and the last."""
    requests = sum(last["requests"].values()) - sum(first["requests"].values())
    cpu = last["cpu"] - first["cpu"]
    return {
        "jobs": bench.jobs,
        "seconds": seconds,
        "requests": requests,
        "requests_per_job": requests / bench.jobs,
        "requests_per_job_minute": requests / bench.jobs / (seconds / 60),
        "cpu_seconds": round(cpu, 2),
        "cpu_percent_of_a_core": round(100 * cpu / seconds, 1),
        "cpu_ms_per_job_minute": round(1000 * cpu / bench.jobs / (seconds / 60), 2),
        "log_lines": last["lines"] - first["lines"],
        "memory_mib": ended["memory"] >> 20,
        "requests_at_start": first["requests"],
        "requests_at_end": {
            what: count - last["requests"].get(what, 0)
            for what, count in ended["requests"].items()
            if count > last["requests"].get(what, 0)
        },
    }


def show(results: dict[str, Any]) -> None:
    """Print the figures that count."""
    print(f"{results['jobs']} jobs followed for {results['seconds']} s, {results['log_lines']} lines of log")
    for name in ("requests", "requests_per_job", "requests_per_job_minute", "cpu_percent_of_a_core"):
        print(f"  {name.replace('_', ' '):28} {results[name]:.4g}")
    print(f"  {'CPU per job and minute':28} {results['cpu_ms_per_job_minute']} ms")


def wait_for(condition: Any, what: str) -> None:
    """Look every second until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:g} seconds")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
