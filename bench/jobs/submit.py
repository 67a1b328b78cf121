"""Submits jobs to Vertex AI as a task of modelway does, and prints what that costs.

``python bench/jobs/submit.py JOBS HOME BUCKET HANDLES``: the API is that of ``BENCH_GOOGLE_ENDPOINTS``. HANDLES is
written for follow.py. It prints, as JSON, its CPU seconds until Airflow was imported, until the first job's task could
defer, and until those of all could.
"""

import json
import os
import sys
from pathlib import Path
from time import process_time
from typing import Any


def open_backend(home: Path) -> Any:
    """Return the backend, with the client that Airflow's connection would give it."""
    from follow import client_of
    from modelway.backends.base import load_backend

    return load_backend("vertex", home=home, client=client_of("vertex"))


def submit(number: int, home: Path, bucket: Path, backend: Any) -> dict[str, Any]:
    """Submit a job and make the trigger that its task defers to; return its handle."""
    from modelway.backends.base import Job, Options
    from modelway.triggers.job import JobTrigger

    options = Options(image="bench", storage={"uri": bucket.as_uri()}, platform={"region": "us-central1"})
    job = Job(model="bench", run=f"r{number}", key="train", stage="train", action="train", command=("sleep", "1"))
    handle: dict[str, Any] = backend.submit(backend.build_request(job, options)).to_dict()
    JobTrigger(handle=handle, home=str(home), follower=handle["name"]).serialize()
    return handle


def main(jobs: int, home: Path, bucket: Path, handles: Path) -> None:
    """Submit and print."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import airflow.sdk  # noqa: F401

    used = {"imported": process_time()}
    backend = open_backend(home)
    made = [submit(0, home, bucket, backend)]
    used["first"] = process_time()
    made += [submit(number, home, bucket, backend) for number in range(1, jobs)]
    used["submitted"] = process_time()
    handles.write_text(json.dumps(made))
    answers.write(f"{json.dumps(used)}\n")
    answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(Path, sys.argv[2:]))
