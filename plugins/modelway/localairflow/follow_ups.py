"""What follows the end of a run in a local Airflow: forks of one process that has imported what they need.

Elsewhere the listener of ``modelway/plugin.py`` starts a new process for each run that ends, which imports Airflow
again: 2 CPU s. Here a process is forked for this before the scheduler has threads or connections to its database.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

#: what the work imports when it needs it
PRELOADED = (
    "airflow.jobs.job",
    "airflow.models.serialized_dag",
    "airflow.models.trigger",
    "airflow.sdk.execution_time.supervisor",
    "airflow.secrets.metastore",
    "modelway.backends.local.backend",
    "modelway.hooks.backend",
    "modelway.hooks.lineage",
    "modelway.lineage.store",
)


def fork_follow_ups() -> None:
    """Start the process that forks, and let the listener of this one use it.

    It ends with the process that called this. Where it has ended by itself, the listener starts processes as elsewhere.
    """
    from modelway.plugin import EndOfRuns

    for module in PRELOADED:
        import_module(module)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        _serve(reading)
    os.close(reading)
    requests = os.fdopen(writing, "wb", buffering=0)
    # Otherwise the scheduler's workers would keep it alive.
    os.register_at_fork(after_in_child=requests.close)
    start_process = EndOfRuns.follow_up

    def follow_up(run: str, state: str, backends: Sequence[str]) -> None:
        try:
            requests.write(json.dumps([run, state, *backends]).encode() + b"\n")
        except (OSError, ValueError):
            start_process(run, state, backends)

    EndOfRuns.follow_up = staticmethod(follow_up)


def _serve(reading: int) -> NoReturn:
    """Fork a process for each line of a pipe until it is closed; then end."""
    from setproctitle import setproctitle

    os.setsid()
    # Nobody waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    setproctitle("modelway.localairflow.follow_ups")
    with os.fdopen(reading) as requests:
        for line in requests:
            if os.fork() == 0:
                # Nobody reads once the parent is gone: writing must fail then.
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(json.loads(line))
    os._exit(0)


def _run(words: Sequence[str]) -> NoReturn:
    """Do in this process what ``python -m modelway.following.orphaned_jobs`` does, and end."""
    from setproctitle import setproctitle

    from modelway.following import orphaned_jobs

    status = 1
    try:
        os.setsid()
        setproctitle(" ".join(("modelway.following.orphaned_jobs", *words)))
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        sys.argv = ["orphaned_jobs", *words]
        orphaned_jobs.main()
        status = 0
    except Exception:
        logging.getLogger(__name__).exception("what follows the end of a run has failed: %s", words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
