"""``python component.py airflow COMPONENT …``: a component of a local Airflow, with less work for the processor.

Scheduler and DAG processor fork a process for each task and for each parsing of a file; what all of these import is
imported here, once. The api-server serves one version of the API for tasks.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

#: what a process imports that parses a model's DAG or executes one of its tasks
_PRELOADED: dict[str, tuple[str, ...]] = {
    "scheduler": (
        "airflow.sdk.execution_time.supervisor",
        "airflow.sdk.execution_time.task_runner",
        "airflow.dag_processing.dagbag",
        "modelway.bundle",
        "modelway.dag",
        "modelway.lineage.store",
    ),
    "dag-processor": ("modelway.bundle", "modelway.dag"),
}


def run(words: Sequence[str]) -> None:
    """Run a command of Airflow in this process.

    :param words: such as ``airflow``, ``scheduler``
    """
    from importlib import import_module

    from airflow.__main__ import main

    component = words[1]
    if component == "api-server":
        from modelway.localairflow.one_process import serve_one_api_version

        serve_one_api_version()
    for module in _PRELOADED.get(component, ()):
        import_module(module)
    sys.argv = list(words)
    main()


if __name__ == "__main__":
    # In place of this file's folder, whose modules are no top-level ones.
    sys.path.pop(0)
    if (library := str(Path(__file__).parents[2])) not in sys.path:
        sys.path.append(library)
    run(sys.argv[1:])
