"""``python component.py airflow COMPONENT …``: a component of a local Airflow, with less work for the processor.

The scheduler forks a process for each task, and the DAG processor one for each parsing of a file: what all of these
import is imported here once. What follows the end of a run is forked as well, and the scheduler continues as soon as a
task ends. Who makes the API for tasks makes it in one version, that of its tasks. All end without freeing their objects
one by one.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

#: what a process imports that parses the DAG of a model, and what one does that executes a task
_PARSING = ("modelway.bundle", "modelway.dag")
_TASK = ("airflow.sdk.execution_time.task_runner", "airflow.dag_processing.dagbag", "modelway.lineage.store")
PRELOADED: Mapping[str, Sequence[str]] = {"scheduler": (*_PARSING, *_TASK), "dag-processor": _PARSING}

#: who makes the API for tasks: for triggers that read a connection, too, and for files that do while they are parsed
SERVE_TASKS = ("api-server", "dag-processor", "triggerer")


def run(words: Sequence[str]) -> None:
    """Run a command of Airflow in this process.

    :param words: such as ``airflow``, ``scheduler``
    """
    from airflow.__main__ import main

    if words[1] in SERVE_TASKS:
        from modelway.localairflow.one_process import serve_one_api_version

        serve_one_api_version()
    for module in PRELOADED.get(words[1], ()):
        import_module(module)
    if words[1] == "scheduler":
        from modelway.localairflow.follow_ups import fork_follow_ups
        from modelway.localairflow.wake_up import wake_scheduler_when_tasks_end

        fork_follow_ups()
        wake_scheduler_when_tasks_end()
    sys.argv = list(words)
    main()


if __name__ == "__main__":
    # In place of this file's folder, whose modules are no top-level ones.
    sys.path.pop(0)
    if (library := str(Path(__file__).parents[2])) not in sys.path:
        sys.path.append(library)
    from modelway.platforms.processes.ending import Ending

    Ending().run(lambda: run(sys.argv[1:]))
