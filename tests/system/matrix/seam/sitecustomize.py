"""Loaded by every Python of the kill matrix's Airflow: stops tasks and triggers at exact steps for a time.

``MATRIX_SEAM/<run id>/<step>.hold`` asks for a stop; whoever comes there writes ``<step>.reached`` with its pid and
waits for ``<step>.go``. Every submit adds the job's name to ``submits.txt``. Nothing of this is in the library.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from pathlib import Path

SEAM = Path(os.environ["MATRIX_SEAM"])


def is_stop(cell, step):
    """Whether a run has to stop at a step, still; notes that the step was reached."""
    if not (SEAM / cell / f"{step}.hold").exists() or (SEAM / cell / f"{step}.go").exists():
        return False
    reached = SEAM / cell / f"{step}.reached"
    if not reached.exists():
        beside = reached.with_suffix(f".{os.getpid()}")
        beside.write_text(str(os.getpid()))
        beside.rename(reached)
    return True


def stop(cell, step):
    """Wait at a step for as long as the run has to stop there."""
    while is_stop(cell, step):
        time.sleep(0.02)


class Stopping:
    """A backend that stops where the matrix asks for it and does the same as the real one otherwise."""

    def __init__(self, backend):
        self._backend = backend
        self._runs = {}

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def build_request(self, job, options):
        request = self._backend.build_request(job, options)
        self._runs[id(request)] = job.run.split("/", 1)[1]
        return request

    def submit(self, request):
        cell = self._runs[id(request)]
        stop(cell, "before-submit")
        handle = self._backend.submit(request)
        (SEAM / cell).mkdir(exist_ok=True)
        (SEAM / "handles").mkdir(exist_ok=True)
        (SEAM / "handles" / handle.name).write_text(cell)
        with (SEAM / cell / "submits.txt").open("a") as file:
            file.write(f"{handle.name} {handle.place} {handle.attempt}\n")
        stop(cell, "after-submit")
        return handle

    def describe(self, handle):
        cell = (SEAM / "handles" / handle.name).read_text()
        stop(cell, "following")
        (SEAM / cell / f"{os.getpid()}.follows").touch()
        status = self._backend.describe(handle)
        # No wait here: a triggerer's thread is for all its triggers.
        if status.state.is_terminal and is_stop(cell, "ended"):
            return type(status)(state=type(status.state).RUNNING)
        return status


def wrap_backends(module):
    found, given = module.backend_from_airflow, {}

    def stopping(name, *, home):
        backend = found(name, home=home)
        return given.setdefault(id(backend), Stopping(backend))

    module.backend_from_airflow = stopping


def wrap_operator(module):
    module.PATIENCE_SECONDS = float(os.environ.get("MATRIX_PATIENCE", module.PATIENCE_SECONDS))
    resume = module.JobOperator.resume

    def stopping(self, context, event):
        stop(context["dag_run"].run_id, "collecting")
        return resume(self, context, event)

    module.JobOperator.resume = stopping


WRAPPED = {"modelway.hooks.backend": wrap_backends, "modelway.operators.job_operator": wrap_operator}


class Finder(importlib.abc.MetaPathFinder):
    """Finds a module where it is and changes it after it was loaded."""

    def find_spec(self, name, path, target=None):
        if name not in WRAPPED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            WRAPPED[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
