"""Jobs on Vertex AI beside the google provider's own operator, deferred: CPU and requests of a task and of following.

``python bench/jobs/beside_google.py [--jobs 1000] [--seconds 60] [--settle 60]`` needs Linux, root and the provider in
an environment of its own, ``.venv-google`` (1 GB): ``uv venv .venv-google && uv pip install --python .venv-google -c
requirements.txt apache-airflow-core apache-airflow-task-sdk apache-airflow-providers-google``. The provider runs as it
is: its hook calls one address, over gRPC with TLS, so that in its own mount namespace the name of that address leads
here, and the certificate of pipelines.py is trusted. Behind that is the same fake of Vertex AI that modelway's jobs go
to. Neither writes log lines, as the provider's trigger does at each poll; modelway's triggers also read the jobs' logs
and heartbeats. A task is what a process does that has imported Airflow, until its first job's task defers: of modelway
the part that is about its job, without the lineage. It prints a table, then JSON; the exit status is 1 where the
provider takes less than five times the CPU or the requests for a job of an hour.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from vertex import usage  # noqa: E402

from tests.google.fake import GoogleFake  # noqa: E402
from tests.google.vertex_jobs import VertexJobs  # noqa: E402

HOST, ADDRESS = "us-central1-aiplatform.googleapis.com", "127.0.0.77"
TARGET = 5.0
PYTHON = HERE.parents[1] / ".venv-google" / "bin" / "python"


def main() -> int:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--settle", type=int, default=60, help="seconds of the followers' first look at everything")
    parser.add_argument("--provider", type=Path, default=PYTHON, help="the Python of its environment")
    parser.add_argument("--without-provider", action="store_true")
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for name, measure in (("modelway", _modelway), ("provider", _provider))[: 1 if args.without_provider else 2]:
        with tempfile.TemporaryDirectory(prefix="bench-google-") as scratch, GoogleFake(VertexJobs) as fake:
            found[name] = measure(fake, Path(scratch), args)
    print(f"\n| {args.jobs} jobs | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for row in found["modelway"]:
        print(f"| {row.replace('_', ' ')} | {' | '.join(str(each[row]) for each in found.values())} |")
    print(json.dumps({"jobs": args.jobs, **found}))
    if args.without_provider:
        return 0
    hour = [row for row in found["modelway"] if row.endswith("_hour")]
    return 0 if all(found["provider"][row] >= TARGET * found["modelway"][row] for row in hour) else 1


def _modelway(fake: GoogleFake, scratch: Path, args: argparse.Namespace) -> dict[str, float]:
    """Submit and follow jobs as modelway does."""
    variables = {**os.environ, "BENCH_GOOGLE_ENDPOINTS": json.dumps(fake.endpoints())}
    handles, home = scratch / "handles.json", scratch / "home"
    words = [str(args.jobs), str(home), str(scratch / "bucket"), str(handles)]
    done = subprocess.run(
        [sys.executable, str(HERE / "submit.py"), *words], env=variables, check=True, stdout=subprocess.PIPE, text=True
    )
    used, calls = json.loads(done.stdout), len(fake.requests)
    command = [sys.executable, str(HERE / "follow.py"), str(handles), str(home)]
    with _started(command, variables) as follower:
        time.sleep(args.settle)
        before, requests = usage(follower), len(fake.requests)
        time.sleep(args.seconds)
        after, more = usage(follower), len(fake.requests)
    # One more call reads how a job ended that has left the list.
    return _figures(args, used, calls, after["cpu"] - before["cpu"], more - requests, at_end=1)


def _provider(fake: GoogleFake, scratch: Path, args: argparse.Namespace) -> dict[str, float]:
    """Submit and follow jobs as the provider's operator and trigger do."""
    _make_certificates(scratch)
    hosts = scratch / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
    connection = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "p1"}}
    variables = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "AIRFLOW_HOME": str(scratch / "airflow"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW_CONN_BENCH": json.dumps(connection),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(scratch / "authority.pem"),
        "NO_GCE_CHECK": "true",
    }
    files = [str(scratch / "server.pem"), str(scratch / "server.key")]
    facade = [str(args.provider), str(HERE / "pipelines.py"), fake.endpoints()["aiplatform"], *files, f"{ADDRESS}:443"]
    inside = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    own = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        inside,
        "sh",
        str(args.provider),
        str(HERE / "provider.py"),
        str(args.jobs),
    ]
    with _started(facade, variables) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        with _started(own, variables) as operator:
            used = usage(operator)
            # Its triggers have not run yet, or have polled once: each polls as soon as it begins.
            calls = usage(service)
            calls["GetTrainingPipeline"] = min(calls["GetTrainingPipeline"], args.jobs)
            time.sleep(args.settle)
            before, requests = usage(operator), usage(service)
            time.sleep(args.seconds)
            after, more = usage(operator), usage(service)
    cpu, polls = after["now"] - before["now"], sum(more.values()) - sum(requests.values())
    return _figures(args, used, sum(calls.values()), cpu, polls, at_end=0)


def _figures(
    args: argparse.Namespace, used: Mapping[str, float], calls: int, cpu: float, requests: int, *, at_end: int
) -> dict[str, float]:
    """Return the figures; those of a job of an hour follow from the others."""
    job_minutes = args.jobs * args.seconds / 60
    task, submit = used["first"] - used["imported"], calls / args.jobs
    return {
        "cpu_seconds_of_a_task": round(task, 2),
        "cpu_ms_of_each_further_job": round(1000 * (used["submitted"] - used["first"]) / (args.jobs - 1), 1),
        "requests_of_a_submit": round(submit, 2),
        "cpu_ms_a_job_and_minute": round(1000 * cpu / job_minutes, 2),
        "requests_a_job_and_minute": round(requests / job_minutes, 3),
        "cpu_seconds_of_a_job_of_an_hour": round(task + 60 * cpu / job_minutes, 2),
        "requests_of_a_job_of_an_hour": round(submit + 60 * requests / job_minutes + at_end, 2),
    }


def _make_certificates(folder: Path) -> None:
    """Make an authority, and a certificate of Google's name by it."""
    (folder / "names").write_text(f"subjectAltName=DNS:{HOST}")
    openssl = shutil.which("openssl") or "openssl"
    own = ("-newkey", "rsa:2048", "-nodes", "-subj")
    for words in (
        ("req", "-x509", "-days", "2", *own, "/CN=bench", "-keyout", "authority.key", "-out", "authority.pem"),
        ("req", *own, f"/CN={HOST}", "-keyout", "server.key", "-out", "server.csr"),
        (
            *("x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key"),
            *("-CAcreateserial", "-extfile", "names", "-out", "server.pem"),
        ),
    ):
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)


@contextmanager
def _started(command: list[str], variables: Mapping[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """Run a program that answers lines, and end it by the end of its input."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=dict(variables), **pipes) as program:
        try:
            yield program
        finally:
            assert program.stdin is not None
            program.stdin.close()
            program.wait(timeout=120)


if __name__ == "__main__":
    sys.exit(main())
