"""Waits for the job's process: passes the notice on, enforces the timeout and, without a container, the memory."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelway.job.agent import process_tree, usage
from modelway.job.agent.lease import Lease
from modelway.job.agent.notice import Notice

POLL_SECONDS = 0.1
MEASURE_SECONDS = 1.0
#: how often memory is measured where this process enforces the limit
WATCH_SECONDS = 0.25
#: what is left of the grace time to write the exit report
REPORT_SECONDS = 3.0
TERM_SECONDS = 1.0
#: the same for a job that was cancelled from another host, whose backend cannot send signals
CANCEL_SECONDS = 10.0


@dataclass
class Follower:
    """Follows one process of a job with all that it starts."""

    child: int
    lease: Lease
    account: usage.Account
    notice: Notice
    say: Callable[[str], None]
    stop_requested_at: Callable[[], float | None]
    grace_seconds: float
    timeout_seconds: float | None
    #: of all processes together; None: the platform enforces the limit, or there is none
    most_bytes: int | None
    cancelled: Path | None
    """the file that says so where there is no container; None: the platform ends what is cancelled"""
    measures: bool
    """whether memory is measured; without a container that takes reading all processes of the machine"""
    over_time: bool = False
    over_memory: bool = False
    was_cancelled: bool = False
    sent_term: float | None = None
    peak: int = 0

    def until_the_end(self) -> int:
        """Wait for the process; return its return code as ``subprocess`` defines it."""
        began = measured = time.monotonic()
        pause = WATCH_SECONDS if self.most_bytes else MEASURE_SECONDS
        while True:
            ended = process_tree.reap()
            if self.child in ended:
                return ended[self.child]
            now = time.monotonic()
            if now - measured >= (POLL_SECONDS if now - began < MEASURE_SECONDS else pause):
                measured = now
                if self.measures:
                    self.peak = max(self.peak, process_tree.memory_bytes())
                self.account.renew()
                self.notice.check()
                self.was_cancelled = self.cancelled is not None and self.cancelled.exists()
            self._enforce_limits(now, began)
            # The end of a short job is noticed early.
            time.sleep(min(POLL_SECONDS, 0.01 + (now - began) / 10))

    def _enforce_limits(self, now: float, began: float) -> None:
        requested = self.stop_requested_at()
        if self.lease.lost.is_set():
            process_tree.send(signal.SIGKILL)
        elif self.timeout_seconds and now - began > self.timeout_seconds:
            self.over_time = True
            process_tree.send(signal.SIGKILL)
        elif self.most_bytes and self.peak > self.most_bytes:
            self.over_memory = True
            process_tree.send(signal.SIGKILL)
        elif self.was_cancelled:
            self._end(now, within_seconds=CANCEL_SECONDS)
        elif requested is not None:
            self._stop_in_time(now, requested)

    def _stop_in_time(self, now: float, requested: float) -> None:
        """Give the job the notice; end it when its time is over."""
        patience = max(self.grace_seconds - REPORT_SECONDS, self.grace_seconds / 2)
        if not self.notice.delivered:
            self.say(f"stop requested: the job has {patience:g} seconds to write a checkpoint and end")
        self.notice.send()
        if self.sent_term is not None or now - requested > patience:
            self._end(now, within_seconds=TERM_SECONDS)

    def _end(self, now: float, *, within_seconds: float) -> None:
        """End all processes of the job: SIGTERM, and SIGKILL for what is left later."""
        if self.sent_term is None:
            self.sent_term = now
            process_tree.send(signal.SIGTERM)
        elif now - self.sent_term > within_seconds:
            process_tree.send(signal.SIGKILL)
