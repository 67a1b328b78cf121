"""One command at a time works in a home folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelway.artifacts.whole_files import lock
from modelway.errors import ModelwayError, NotWritable
from modelway.hooks.settings import make_private


@contextmanager
def only_one(home: Path, *, command: str) -> Iterator[None]:
    """Hold the home folder: two schedulers on one database would both run the tasks, and a demo stops what serves.

    :param command: who holds it, as another one is told
    :raises ModelwayError: another command holds it; the message names it with its process
    :raises NotWritable: the folder cannot be written
    """
    try:
        make_private(home)
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "home.lock").open("a+")
    except OSError as error:
        raise NotWritable(
            f"the home folder cannot be written ({error.strerror})",
            where=str(home),
            do="Make it writable, or set MODELWAY_HOME to a folder that is",
        ) from error
    with file:
        if not lock(file, wait=False):
            file.seek(0)
            raise ModelwayError(
                f"{file.read().strip()} is running already",
                where=str(home),
                do="Stop it with Ctrl-C or wait for its end, or set MODELWAY_HOME to another folder",
            )
        file.truncate(0)
        file.write(f"`{command}` (process {os.getpid()})")
        file.flush()
        yield
