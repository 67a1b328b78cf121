"""Python's garbage collector, which scans all objects again and again while many are created."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause the collector while many lasting objects are created: imports, specs, DAGs.

    In a process that has imported Airflow it needs a third of the time of loading specs and DAGs. Objects outside of
    reference cycles are still freed.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
