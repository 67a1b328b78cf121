"""Keeps the Airflow of a test running: a component that ended by itself is started again, as `modelway demo` does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modelway.errors import EndpointNotReady
from modelway.localairflow.processes import LocalAirflow
from modelway.localairflow.restarts import Restarts

PAUSE_SECONDS = 2.0


@contextmanager
def kept_running(airflow: LocalAirflow) -> Iterator[LocalAirflow]:
    """Start a component again that ended or is silent, until the block ends.

    With SQLite a component can end on a busy machine, and a test would wait in vain.
    """
    over, restarts = threading.Event(), Restarts(airflow)

    def keep() -> None:
        while not over.wait(PAUSE_SECONDS):
            try:
                restarts.check()
            except EndpointNotReady as error:
                # the test that waits for it fails, with this in its captured output
                print(error)
                return

    # What it starts gets a signal when it ends: components end with the thread that started them.
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield airflow
    finally:
        over.set()
        thread.join()
