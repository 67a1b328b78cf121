"""The trigger that follows a job on any backend: streams its log into the task's log and fires when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.backends.base import Backend, Handle, JobState, Paced
from modelway.errors import LineageUnavailable
from modelway.following.deferral import abandoned_jobs, deferred_job, forget_deferral
from modelway.following.follower import Follower, Step
from modelway.following.log_position import LogPosition
from modelway.following.marked import record_marked
from modelway.following.task_state import CONTINUES, state_now
from modelway.hooks.backend import backend_from_airflow

#: a task that resumes sooner may count as lost, see docs/adr/0005-short-waits-stay-in-the-worker.md
SETTLE_SECONDS = 10.0
#: pauses before a connection is read again that Airflow cannot look up now
CONNECTION_PAUSES = (1.0, 5.0, 20.0)
#: inspections that may wait for an API at the same time; asyncio's own threads are few, and Airflow needs them
_INSPECTIONS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="modelway-job")

#: a process looks for abandoned jobs at most this often
ABANDONED_SECONDS = 60.0
_last_check = -ABANDONED_SECONDS
Found = TypeVar("Found")


class JobTrigger(BaseTrigger):
    """Fires once, with the job's handle and last status.

    Its log position is stored below the home folder, line by line: a triggerer that is stopped and started continues at
    the next line, one that is killed repeats at most one. Lines that it passed to Airflow's logging process, and that
    process did not write before it was killed too, are only in the job's own log.
    """

    def __init__(
        self, *, handle: dict[str, Any], home: str, offset: int = 0, follower: str = "", poll_interval: float = 2.0
    ) -> None:
        """Follow the job of ``handle``.

        :param home: the embedded home folder
        :param offset: the position in the job's log up to which the task's log has it, as the backend counts it
        :param follower: the unique name of the deferral; without one a restart begins at ``offset`` again
        :param poll_interval: seconds between two inspections of the job
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.handle = handle
        self.home = home
        self.offset = offset
        self.follower = follower
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        known = ("handle", "home", "offset", "follower", "poll_interval")
        return "modelway.triggers.job.JobTrigger", {name: getattr(self, name) for name in known}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Inspect the job in a thread, so that a slow backend delays no other trigger."""
        await self._stop_abandoned()
        position = LogPosition(home=Path(self.home), follower=self.follower, first=self.offset)
        offset, logged = position.read()
        backend = await self._backend()
        follower = Follower(backend, self._handle(), offset=offset, logged=logged)
        settled = time.monotonic() + SETTLE_SECONDS
        while True:
            before = follower.offset
            step = await _in_thread(follower.step)
            self._log_lines(step, position, before=before, after=follower.offset)
            if step.over:
                break
            if not step.more:
                await self.still_runs()
                if step.status.state is JobState.UNKNOWN:
                    # Its connection may have new credentials.
                    with suppress(LineageUnavailable):
                        backend = await self._found_backend()
                        follower.reconnect(backend)
                await asyncio.sleep(backend.poll_seconds if isinstance(backend, Paced) else self.poll_interval)
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        # The position is stored until the task resumes: the event may be lost with the triggerer, and this runs again.
        yield TriggerEvent({"handle": self.handle, "status": step.status.to_dict(), "follower": self.follower})

    async def still_runs(self) -> None:
        """Do what has to be done now and again while the job runs: nothing here."""

    def _log_lines(self, step: Step, position: LogPosition, *, before: int, after: int) -> None:
        """Log the lines of an inspection and store each position; a stopped triggerer ends before or after all."""
        for line in step.notes:
            self.log.info("%s", line)
        for number, line in enumerate(step.printed, start=step.logged + 1):
            self.log.info("%s", line)
            position.write(before, lines=number)
        if after != before:
            position.write(after)

    async def on_kill(self) -> None:
        """Stop the job when a user ends the deferred task; a restart of the triggerer does not call this.

        Airflow calls this when the trigger is no longer this triggerer's, so the task's state is read.
        """
        if (state := await state_now(self.task_instance)) in CONTINUES:
            self.log.info("the job is left running: its task continues")
            return
        from asgiref.sync import sync_to_async

        backend = await self._backend()
        await _in_thread(lambda: backend.cancel(self._handle()))
        LogPosition(home=Path(self.home), follower=self.follower).forget()
        if (job := deferred_job(Path(self.home), self.follower)) is not None:
            await sync_to_async(record_marked)(job, state)
        forget_deferral(Path(self.home), self.follower)

    async def _stop_abandoned(self) -> None:
        """Stop the jobs whose task ended while there was no triggerer."""
        global _last_check
        if time.monotonic() - _last_check < ABANDONED_SECONDS:
            return
        _last_check = time.monotonic()
        from asgiref.sync import sync_to_async

        for job in await sync_to_async(abandoned_jobs)(Path(self.home)):
            try:
                backend = await sync_to_async(backend_from_airflow)(job.handle.backend, home=Path(self.home))
                await _in_thread(partial(backend.cancel, job.handle))
                forget_deferral(Path(self.home), job.follower)
                self.log.info("job %s was stopped: its task in run %s is over", job.handle.name, job.run_id)
            except Exception as error:
                self.log.warning("job %s could not be stopped: %s: %s", job.handle.name, type(error).__name__, error)

    def _handle(self) -> Handle:
        return Handle.from_dict(self.handle)

    async def _backend(self) -> Backend:
        """Return the backend, as soon as Airflow can say what its connection is."""
        for seconds in CONNECTION_PAUSES:
            with suppress(LineageUnavailable):
                return await self._found_backend()
            await asyncio.sleep(seconds)
        return await self._found_backend()

    async def _found_backend(self) -> Backend:
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        return await sync_to_async(backend_from_airflow)(self.handle["backend"], home=Path(self.home))


async def _in_thread(function: Callable[[], Found]) -> Found:
    return await asyncio.get_running_loop().run_in_executor(_INSPECTIONS, function)
