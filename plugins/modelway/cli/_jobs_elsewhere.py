"""Jobs on Docker or Kubernetes that outlived the command that began them: stopped, or named with how to stop them.

``python -m modelway.cli._jobs_elsewhere HOME`` stops them, in the environment of the home's Airflow: its connections
say where the engine and the cluster are. It prints a JSON line for each job, ``{name, stopped}`` or ``{name, reason}``.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from modelway.backends._kubernetes_launchers import KINDS
from modelway.backends.base import Backend, Handle
from modelway.triggers._started import StartedJob, forget_started, started_jobs

#: what does not answer for so long is left, and named
STOP_SECONDS = 60.0


def stop_jobs_elsewhere(home: Path, *, environment: Mapping[str, str]) -> list[str]:
    """Stop the jobs that commands in a home began elsewhere and that nobody follows; return a line for each.

    Only for who has the home alone, and whose own run is not under way. A job that cannot be stopped is tried again by
    the next command.

    :param environment: that of the home's Airflow
    """
    jobs = started_jobs(home)
    if not jobs:
        return []
    words = [sys.executable, "-P", "-m", "modelway.cli._jobs_elsewhere", str(home)]
    try:
        done = subprocess.run(
            words,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=STOP_SECONDS,
        )
        printed = done.stdout
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
    told = {line["name"]: line for line in map(_parsed, printed.splitlines()) if line}
    lines = []
    for job in jobs:
        came = told.get(job.handle.name, {"reason": f"{job.handle.backend} does not answer"})
        if came.get("stopped"):
            lines.append(f"job {job.handle.name} of run {job.run} went on on {job.handle.backend}: stopped")
        elif "reason" in came:
            lines.append(
                f"job {job.handle.name} of run {job.run} goes on on {job.handle.backend} and could not be stopped "
                f"({came['reason']}); stop it with: {_by_hand(job.handle)}"
            )
    return lines


def _parsed(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "name" in found else {}


def _by_hand(handle: Handle) -> str:
    """Return the command that stops a job without us."""
    if handle.backend != "kubernetes":
        return f"docker stop {handle.name}"
    namespace, launcher, _ = (handle.mark or "default/job/").split("/")
    kind = KINDS[launcher][2].lower() if launcher in KINDS else "job"
    return f"kubectl delete {kind} -n {namespace} -l modelway.dev/try={handle.name}"


def stop_all(home: Path) -> None:
    """Stop the recorded jobs, all at the same time, and print what became of each."""
    threads = [threading.Thread(target=_print_stopped, args=(home, job), daemon=True) for job in started_jobs(home)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _print_stopped(home: Path, job: StartedJob) -> None:
    told: dict[str, object] = {"name": job.handle.name}
    try:
        told["stopped"] = stopped(_backend(home, job.handle), job.handle)
        forget_started(home, job.handle)
    except Exception as error:
        told["reason"] = (str(error) or type(error).__name__).splitlines()[0][:300]
    print(json.dumps(told), flush=True)


def stopped(backend: Backend, handle: Handle) -> bool:
    """Stop a job; return whether it was there to be stopped.

    :raises SubmitFailed: the backend refused it or did not answer
    """
    # What cannot be described, such as on storage that is not seen here, may still be stopped.
    was_over = backend.describe(handle).state.is_terminal
    backend.cancel(handle)
    return not was_over


def _backend(home: Path, handle: Handle) -> Backend:
    from modelway.hooks.backend import backend_from_airflow

    return backend_from_airflow(handle.backend, home=home)


if __name__ == "__main__":
    import os

    # Airflow's own processes read connections from its database, tasks ask for them: this is one of the former.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    stop_all(Path(sys.argv[1]))
