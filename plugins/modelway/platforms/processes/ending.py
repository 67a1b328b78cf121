"""The end of a process that has imported much: without freeing its objects one by one, which takes Airflow 2 CPU s."""

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Callable

#: new objects before a collection, in place of 700: it goes over the hundreds of thousands that imports made
COLLECTED_OBJECTS = 50_000


class Ending:
    """Runs the work of this process, then ends it as Python does, but leaves its memory to the system."""

    def __init__(self) -> None:
        """Be the first to register for the end, and so the last to be called: after the libraries' own functions."""
        self.status = 1
        atexit.register(self._end)

    def run(self, work: Callable[[], object]) -> None:
        """Do the work, with rare collections of garbage, and record with which status the process is to end."""
        gc.set_threshold(COLLECTED_OBJECTS, 20, 50)
        try:
            work()
            self.status = 0
        except SystemExit as error:
            # A text is a failure, as for Python, which prints it.
            self.status = error.code if isinstance(error.code, int) else int(error.code is not None)
            raise

    def _end(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.status)
