"""A job's log beside the local copy of its folder: the agent's file in the volume, of which new bytes are appended.

The engine's own log is not read: to return what is new it decodes all that is old (for 93 MiB 2.7 s at each read, and
14 s for all of it), where the whole file arrives in 0.3 s. Offsets are bytes of the file, the same on every machine.
"""

import time
from pathlib import Path

from modelway.backends.docker import files
from modelway.backends.folders import generations
from modelway.backends.folders.merged_log import BLOCK, read_merged
from modelway.platforms.docker.engine import Engine

LOG = "log-0.txt"
STATE = "log.json"
#: of the time, this part at most is spent on fetching one log while its job runs: it is read whole each time
SHARE = 0.1
LAST_LINES = 100


class LogReader:
    """Reads the logs of containers for one process."""

    def __init__(self) -> None:
        """Start without having read anything."""
        self._rest_until: dict[str, float] = {}

    def read(
        self, engine: Engine, *, container: str, at: str, attempt: Path, offset: int, over: bool
    ) -> tuple[str, int]:
        """Return what was printed since ``offset``, whole lines unless the job is over, and the new offset.

        :param container: its id: another container of the same name has another log
        :param at: the folder of the attempt as the container sees it
        :param attempt: the local folder of the attempt
        """
        state = generations.read(attempt / STATE) or {}
        known = state.get("container") == container
        if not known:
            (attempt / LOG).unlink(missing_ok=True)
            generations.write(attempt / STATE, {"container": container, "over": False})
        if not (known and state["over"]):
            have = (attempt / LOG).stat().st_size if (attempt / LOG).exists() else 0
            rests = time.monotonic() < self._rest_until.get(container, 0)
            if over or (have - offset < BLOCK and not rests):
                self._fetch(engine, container, f"{at}/{LOG}", attempt / LOG, have)
            if over:
                _save_container_log(engine, container, attempt / LOG)
                generations.write(attempt / STATE, {"container": container, "over": True})
                self._rest_until.pop(container, None)
        return read_merged(attempt, nodes=1, offset=offset, over=over)

    def _fetch(self, engine: Engine, container: str, at: str, to: Path, have: int) -> None:
        """Append what the file has beyond what is there."""
        started = time.monotonic()
        size = engine.size(container, at)
        if size is None or size <= have:
            return
        with to.open("ab") as file:
            for data in files.content(engine.get(container, at) or iter(())):
                file.write(data[have:] if have else data)
                have -= min(have, len(data))
        now = time.monotonic()
        self._rest_until[container] = now + (now - started) / SHARE


def _save_container_log(engine: Engine, container: str, to: Path) -> None:
    """Save the container's own last lines where no agent ever wrote: the image may lack what it needs."""
    if not to.exists():
        to.write_bytes(engine.last_lines(container, lines=LAST_LINES))
