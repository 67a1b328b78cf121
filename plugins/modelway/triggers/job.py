"""The trigger that follows a job on any backend: streams its log into the task's log and fires when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.backends.base import Backend, Handle, JobStatus, read_log
from modelway.hooks.backend import backend_from_airflow

#: a task that comes back sooner may be taken for lost, see docs/adr/0005-short-waits-stay-in-the-worker.md
SETTLE_SECONDS = 10.0


class JobTrigger(BaseTrigger):
    """Fires once, with the job's handle and last status."""

    def __init__(self, *, handle: dict[str, Any], home: str, offset: int = 0, poll_interval: float = 0.5) -> None:
        """Follow the job of ``handle``.

        :param home: the embedded home folder
        :param offset: how many bytes of the job's log are in the task's log already
        :param poll_interval: seconds between two looks at the job
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.handle = handle
        self.home = home
        self.offset = offset
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again."""
        return (
            "modelway.triggers.job.JobTrigger",
            {"handle": self.handle, "home": self.home, "offset": self.offset, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll the backend in a thread, so that a slow one holds up no other trigger."""
        handle, backend, offset = self._handle(), self._backend(), self.offset
        settled = time.monotonic() + SETTLE_SECONDS
        while True:
            status: JobStatus = await asyncio.to_thread(backend.describe, handle)
            lines, offset = await asyncio.to_thread(read_log, backend, handle, offset=offset)
            for line in lines:
                self.log.info("%s", line)
            if status.state.is_terminal:
                break
            await asyncio.sleep(self.poll_interval)
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield TriggerEvent({"handle": self.handle, "status": status.to_dict()})

    async def on_kill(self) -> None:
        """Stop the job when a user ends the deferred task; a restart of the triggerer comes here not."""
        await asyncio.to_thread(self._backend().cancel, self._handle())

    def _handle(self) -> Handle:
        return Handle.from_dict(self.handle)

    def _backend(self) -> Backend:
        return backend_from_airflow(self.handle["backend"], home=Path(self.home))
