"""Submits jobs to Vertex AI as a task of modelway does, and prints what that costs.

``python bench/jobs/submit.py JOBS HOME BUCKET HANDLES``: the API is that of ``BENCH_GOOGLE_ENDPOINTS``. HANDLES is
written for follow.py. It prints, as JSON, its CPU seconds until Airflow was imported, until the first job's task could
defer, and until those of all could.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any


def cpu() -> float:
    """Return the CPU seconds of this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def submit(number: int, home: Path, bucket: Path, opened: dict[str, Any]) -> dict[str, Any]:
    """Submit a job and make the trigger that its task defers to; return its handle."""
    from follow import client_of
    from modelway.backends.base import Job, Options, load_backend
    from modelway.triggers.job import JobTrigger

    backend = opened.setdefault("backend", None) or load_backend("vertex", home=home, client=client_of("vertex"))
    opened["backend"] = backend
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

    used, opened = {"imported": cpu()}, dict[str, Any]()
    made = [submit(0, home, bucket, opened)]
    used["first"] = cpu()
    made += [submit(number, home, bucket, opened) for number in range(1, jobs)]
    used["submitted"] = cpu()
    handles.write_text(json.dumps(made))
    answers.write(f"{json.dumps(used)}\n")
    answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(Path, sys.argv[2:]))
