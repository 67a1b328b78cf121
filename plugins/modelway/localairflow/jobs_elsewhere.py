"""Jobs on Docker or Kubernetes that outlived the command that started them: stopped, or listed with how to stop them.

``python -m modelway.localairflow.jobs_elsewhere HOME NAME…`` stops them, in the environment of the home's Airflow: its
connections say where the engine and the cluster are. It prints a JSON line for each job, ``{name, stopped}`` or
``{name, reason}``.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from modelway.backends.base import Backend, Handle, backend_member
from modelway.following.started_jobs import StartedJob, forget_started, started_jobs

#: what does not answer for so long is left running, and listed
STOP_SECONDS = 60.0


def names_elsewhere(home: Path) -> frozenset[str]:
    """Return the names of the jobs that commands in a home started elsewhere and that are not known to have ended."""
    return frozenset(job.handle.name for job in started_jobs(home))


def stop_jobs_elsewhere(home: Path, *, environment: Mapping[str, str], but: Collection[str] = ()) -> list[str]:
    """Stop the jobs that commands in a home started elsewhere and that nobody follows; return a line for each.

    Only for a command that has locked the home and whose own run is not running. A job that cannot be stopped is
    tried again by the next command.

    :param environment: that of the home's Airflow
    :param but: the names of those that this command has tried to stop before
    """
    jobs = [job for job in started_jobs(home) if job.handle.name not in but]
    if not jobs:
        return []
    command = [
        sys.executable,
        "-P",
        "-m",
        "modelway.localairflow.jobs_elsewhere",
        str(home),
        *(job.handle.name for job in jobs),
    ]
    try:
        done = subprocess.run(
            command,
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
    outcomes = {line["name"]: line for line in map(_parsed, printed.splitlines()) if line}
    lines = []
    for job in jobs:
        outcome = outcomes.get(job.handle.name, {"reason": f"{job.handle.backend} does not answer"})
        if outcome.get("stopped"):
            lines.append(f"job {job.handle.name} of run {job.run} continued on {job.handle.backend}: stopped")
        elif "reason" in outcome:
            lines.append(
                f"job {job.handle.name} of run {job.run} continues on {job.handle.backend} and could not be stopped "
                f"({outcome['reason']}); stop it with: {_by_hand(job.handle)}"
            )
    return lines


def _parsed(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "name" in found else {}


def _by_hand(handle: Handle) -> str:
    """Return the command that stops a job without modelway."""
    command = backend_member(handle.backend).stop_command
    return command(handle) if command else f"the tools of {handle.backend}"


def stop_all(home: Path, names: Collection[str]) -> None:
    """Stop the recorded jobs of these names, all at the same time, and print what became of each."""
    jobs = [job for job in started_jobs(home) if job.handle.name in names]
    threads = [threading.Thread(target=_print_stopped, args=(home, job), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _print_stopped(home: Path, job: StartedJob) -> None:
    outcome: dict[str, object] = {"name": job.handle.name}
    try:
        outcome["stopped"] = stopped(_backend(home, job.handle), job.handle)
        forget_started(home, job.handle)
    except Exception as error:
        outcome["reason"] = (str(error) or type(error).__name__).splitlines()[0][:300]
    print(json.dumps(outcome), flush=True)


def stopped(backend: Backend, handle: Handle) -> bool:
    """Stop a job; return whether it existed.

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

    # Airflow's own processes read connections from its database, tasks request them: this is one of the former.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    stop_all(Path(sys.argv[1]), sys.argv[2:])
