"""``python3 -m modelway.job.agent FOLDER --attempt N``: the first process of a job's container.

Runs one try of the job in ``FOLDER`` (the contract's folder, see ``contract.py``) with ``PYTHONPATH=FOLDER/runner``:

1. waits until no other container works at the same place (``lease.py``);
2. installs what ``code/requirements.txt`` asks for beyond the image (``requirements.py``);
3. starts ``python3 -m modelway.job FOLDER``, through torchrun when there are several processes (``launch.py``),
   and copies what it prints to standard output and to ``try-<N>/log-<node>.txt``;
4. when it ends, kills what it left running, and writes ``try-<N>/exit-<node>.json``.

What its processes take is in ``try-<N>/usage-<node>-<id>.json`` (``usage.py``).

Flags: ``--attempt N`` · ``--node I`` (default ``JOB_COMPLETION_INDEX``, else 0; ``any``: the first free one from 1 on)
· ``--nodes N`` · ``--processes M`` (of each node) · ``--rendezvous HOST:PORT`` (of node 0, only for several nodes) ·
``--memory BYTES`` (what the container may take, for the message) · ``--timeout SECONDS`` (of the job's code) ·
``--grace SECONDS`` (what the platform leaves between SIGTERM and SIGKILL, default 30) · ``--remote URI`` (the folder is
this container's own and is copied to and from an object store, see ``remote.py``).

SIGTERM is the notice that the job must leave: on each of its machines a file appears (``notice.py``: the code sees
``job.stopping``, a command the file that ``MODELWAY_NOTICE`` names), and the job has until three seconds before the end
of the grace time. A notice from before this container began is none.

``exit-<node>.json``: ``returncode`` (int or null) · ``signal`` (such as ``SIGKILL``, or null) · ``reason`` (one line or
null) · ``kind`` (a ``FailureKind``'s value or null) · ``out_of_memory`` · ``stopped`` (ended because of the notice) ·
``seconds`` · ``peak_memory_bytes`` · ``retryable`` (only where it differs from the kind's rule: pip without a network).

Own exit status: 0 succeeded · 1 the code failed · 2 what comes before the code failed · 124 the timeout · 137 killed or
out of memory, or another container took over (then without an exit file) · 143 stopped after the notice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelway.job.agent import launch, memory, process_tree, requirements, usage
from modelway.job.agent.exit_report import INIT_STATUS, STOPPED_STATUS, ExitReport, report_of
from modelway.job.agent.lease import Lease
from modelway.job.agent.notice import Notice
from modelway.job.agent.remote import Remote
from modelway.job.agent.tee import Tee

POLL_SECONDS = 0.1
MEASURE_SECONDS = 1.0
#: what is kept of the grace time to write how it ended
REPORT_SECONDS = 3.0
TERM_SECONDS = 1.0
TAKEN_OVER_STATUS = 137


@dataclass
class Agent:
    """One try of a job on one machine."""

    folder: Path
    asked: argparse.Namespace
    begun: float = field(default_factory=time.monotonic)
    stop_requested_at: float | None = None
    node: int = 0
    installing: bool = False

    @property
    def attempt(self) -> Path:
        """The folder of the try."""
        return self.folder / f"try-{self.asked.attempt}"

    def run(self) -> int:
        """Run the try; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_notice)
        process_tree.adopt_orphans()
        if self.asked.remote is None:
            return self._run_there()
        remote = Remote(
            uri=self.asked.remote, folder=self.folder, attempt=self.asked.attempt, node=int(self.asked.node)
        )
        if not remote.enter(leave=lambda: self.stop_requested_at is not None, say=_print):
            return STOPPED_STATUS
        remote.restore()
        remote.start()
        try:
            return self._run_there()
        finally:
            remote.finish()

    def _run_there(self) -> int:
        try:
            self.attempt.mkdir(exist_ok=True)
            json.loads((self.folder / "job.json").read_text())
            node = None if self.asked.node == "any" else int(self.asked.node)
            lease = Lease(attempt=self.attempt, node=node, nodes=self.asked.nodes)
            entered = lease.enter(leave=lambda: self.stop_requested_at is not None, say=self._say_before)
        except (OSError, ValueError) as error:
            _print(f"the job's folder cannot be used: {type(error).__name__}: {error}")
            return INIT_STATUS
        self.node = lease.node or 0
        if not entered:
            report = ExitReport(kind="killed", stopped=True, reason="the job was told to leave before it began")
            self._write(report)
            return report.status
        try:
            return self._run_alone(lease)
        finally:
            lease.leave()

    def _say_before(self, text: str) -> None:
        """Say something before the job's output is copied."""
        _print(text)
        if self.asked.node != "any":
            with (self.attempt / f"log-{self.asked.node}.txt").open("a") as log:
                log.write(text + "\n")

    def _run_alone(self, lease: Lease) -> int:
        self._forget_an_earlier_container()
        scratch = Path(tempfile.mkdtemp(prefix="modelway-"))
        reader, writer = os.pipe()
        tee = Tee(source=reader, log=self.attempt / f"log-{self.node}.txt")
        account = usage.Account(attempt=self.attempt, node=self.node)
        notice = Notice(attempt=self.attempt, node=self.node)
        try:
            report = self._run_code(lease, tee, writer, scratch, account, notice)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            account.write()
        tee.finish(within_seconds=5)
        if lease.lost.is_set():
            _print("another container has taken this job over: this one gives way")
            return TAKEN_OVER_STATUS
        report.seconds = round(time.monotonic() - self.begun, 3)
        self._write(report)
        return report.status

    def _run_code(
        self, lease: Lease, tee: Tee, writer: int, scratch: Path, account: usage.Account, notice: Notice
    ) -> ExitReport:
        """Install, start and follow the job's code; the pipe's writing end is closed on return."""
        killed_before = memory.kills()
        try:
            self.installing = True
            python = requirements.python_for(
                requirements=self.folder / "code" / "requirements.txt", scratch=scratch, say=tee.say
            )
            self.installing = False
            child = self._start(python, writer, notice)
        except _StopRequested as told:
            process_tree.end_all(within_seconds=5)
            return ExitReport(kind="killed", stopped=True, reason=str(told))
        except (requirements.RequirementsFailed, OSError) as error:
            tee.say(str(error))
            offline = "connection" in " ".join(tee.last_lines).lower()
            return ExitReport(kind="init", reason=str(error)[:1000], retryable=True if offline else None)
        finally:
            os.close(writer)
        memory.be_killed_first(child.pid)
        follow = _Following(agent=self, lease=lease, account=account, notice=notice, child=child.pid, say=tee.say)
        child.returncode = follow.until_the_end()
        process_tree.end_all(within_seconds=5)
        tee.finish(within_seconds=5)
        killed_after = memory.kills()
        return report_of(
            attempt=self.attempt,
            returncode=child.returncode,
            lines=list(tee.last_lines),
            over_time=self.asked.timeout if follow.over_time else None,
            killed_for_memory=None if killed_after is None else killed_after > (killed_before or 0),
            peak_bytes=max(follow.peak, process_tree.largest_bytes()),
            limit_bytes=self.asked.memory or memory.limit_bytes(),
            noticed=notice.told,
            ended_by_force=follow.sent_term is not None,
        )

    def _start(self, python: str, writer: int, notice: Notice) -> subprocess.Popen[bytes]:
        command = launch.command(
            python=python,
            folder=self.folder,
            node=self.node,
            nodes=self.asked.nodes,
            processes=self.asked.processes,
            rendezvous=self.asked.rendezvous,
        )
        variables = {
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "MODELWAY_TRY": str(self.attempt),
            "MODELWAY_NOTICE": str(notice.path),
        }
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        )

    def _on_notice(self, number: int, frame: Any) -> None:
        """Note that the job must leave; the loop does the rest, since a handler may interrupt anything."""
        self.stop_requested_at = self.stop_requested_at or time.monotonic()
        if self.installing:
            self.installing = False
            raise _StopRequested("the job was told to leave before its code began")

    def _forget_an_earlier_container(self) -> None:
        """Remove what a container told that ran the same try here, such as one that its platform started again."""
        first, count = self.node * self.asked.processes, self.asked.processes
        left = [f"error-{rank}.json" for rank in range(first, first + count)]
        for name in (f"exit-{self.node}.json", *left):
            (self.attempt / name).unlink(missing_ok=True)

    def _write(self, report: ExitReport) -> None:
        path = self.attempt / f"exit-{self.node}.json"
        beside = path.with_name(f".{path.name}.part")
        with beside.open("w") as file:
            file.write(report.to_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


class _StopRequested(Exception):
    """The notice came while nothing could be saved."""


class _Following:
    """Waits for the job's process; hands on the notice, and keeps to the times."""

    def __init__(
        self,
        *,
        agent: Agent,
        lease: Lease,
        account: usage.Account,
        notice: Notice,
        child: int,
        say: Callable[[str], None],
    ) -> None:
        self.agent, self.lease, self.account, self.notice = agent, lease, account, notice
        self.child, self.say = child, say
        self.over_time = False
        self.sent_term: float | None = None
        self.peak = 0

    def until_the_end(self) -> int:
        """Return the process's return code as ``subprocess`` would tell it."""
        began = measured = time.monotonic()
        timeout = self.agent.asked.timeout
        while True:
            ended = process_tree.reap()
            if self.child in ended:
                return ended[self.child]
            now = time.monotonic()
            if now - measured >= MEASURE_SECONDS or now - began < MEASURE_SECONDS:
                measured, self.peak = now, max(self.peak, process_tree.memory_bytes())
                self.account.renew()
                self.notice.look()
            if self.lease.lost.is_set() or (timeout and now - began > timeout):
                self.over_time = not self.lease.lost.is_set()
                process_tree.send(signal.SIGKILL)
            elif self.agent.stop_requested_at is not None:
                self._stop_in_time(now, self.agent.stop_requested_at)
            time.sleep(POLL_SECONDS)

    def _stop_in_time(self, now: float, told: float) -> None:
        """Tell the job to leave; end it when its time is over."""
        grace = self.agent.asked.grace
        patience = max(grace - REPORT_SECONDS, grace / 2)
        if not self.notice.told:
            self.say(f"told to leave: the job has {patience:g} seconds to write a checkpoint and end")
        self.notice.give()
        if self.sent_term is None and now - told > patience:
            self.sent_term = now
            process_tree.send(signal.SIGTERM)
        elif self.sent_term is not None and now - self.sent_term > TERM_SECONDS:
            process_tree.send(signal.SIGKILL)


def _print(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelway.job.agent", description="Run one try of a job on this machine.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--node", default=os.environ.get("JOB_COMPLETION_INDEX") or "0")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rendezvous")
    parser.add_argument("--memory", type=int)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--remote")
    parser.add_argument("--grace", type=float, default=30.0)
    return parser


def main(words: list[str]) -> int:
    """Run the try that the command line names."""
    parser = _arguments()
    asked = parser.parse_args(words)
    if asked.node != "any" and not asked.node.isdigit() or asked.node == "any" and asked.remote:
        parser.error(f"--node {asked.node}: give a number, or 'any' on storage that all containers see")
    return Agent(folder=asked.folder.absolute(), asked=asked).run()


if __name__ == "__main__":
    # A hard exit: the copying thread may still wait for a reader of standard output.
    _status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(_status)
