"""The lock of an endpoint among the processes of one machine."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from modelway.artifacts.whole_files import writing
from modelway.errors import EndpointNotReady


@contextlib.contextmanager
def locked(root: Path, name: str, *, patience: float = 600) -> Iterator[None]:
    """Lock the endpoint; the lock ends with the process that holds it.

    :raises NotWritable: when the lock's folder cannot be written
    :raises EndpointNotReady: when another change holds it for more than ``patience`` seconds
    """
    path = root / ".locks" / f"{name}.lock"
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise EndpointNotReady("another change of it is not done yet", where=f"endpoint {name}") from None
                time.sleep(0.05)
        yield
