"""``python3 -m modelway.job.agent FOLDER --attempt N``: the first process of a job's container.

Runs one attempt of the job in ``FOLDER`` (its layout is in ``contract.py``) with ``PYTHONPATH=FOLDER/runner``:

1. waits until no other container works in the same place (``lease.py``);
2. installs what ``code/requirements.txt`` requires and the image lacks (``requirements.py``);
3. starts ``python3 -m modelway.job FOLDER``, through torchrun when there are several processes (``launch.py``),
   and copies what it prints to standard output and to ``try-<N>/log-<node>.txt``;
4. when it ends, kills the processes that it left running, and writes ``try-<N>/exit-<node>.json``.

The usage of its processes is in ``try-<N>/usage-<node>-<id>.json`` (``usage.py``).

Flags: ``--attempt N`` · ``--node I`` (default ``JOB_COMPLETION_INDEX``, else 0; ``any``: the first free one from 1 on)
· ``--nodes N`` · ``--processes M`` (of each node) · ``--rendezvous HOST:PORT`` (of node 0, only for several nodes;
where it is missing, ``CLUSTER_SPEC`` has it and the node's number, see ``cluster.py``) ·
``--memory BYTES`` (what the container may use, for the message) · ``--enforce-memory`` (no container limits the memory:
a job that uses more than ``--memory`` is ended) · ``--timeout SECONDS`` (of the job's code) ·
``--grace SECONDS`` (what the platform leaves between SIGTERM and SIGKILL, default 30) · ``--remote URI`` (the folder is
this container's own and is copied to and from an object store, see ``remote.py``) · ``--venvs FOLDER`` (virtual
environments are stored there for later jobs) · ``--bare`` (without a container: the job's processes stay in this one's
session, are ended when they use more than ``--memory``, and write to the log themselves; ``--cpu`` is the number of
cores that it binds itself to, ``--cores-lock`` a file with which the agents of a machine take turns to choose them).

SIGTERM is the notice that the job must stop: on each of its machines a file appears (``notice.py``: the code sees
``job.stopping``, a command the file that ``MODELWAY_NOTICE`` names), and the job has until three seconds before the end
of the grace time. A notice from before this container started is ignored.

``exit-<node>.json``: ``returncode`` (int or null) · ``signal`` (such as ``SIGKILL``, or null) · ``reason`` (one line or
null) · ``kind`` (a ``FailureKind``'s value or null) · ``out_of_memory`` · ``stopped`` (ended because of the notice) ·
``seconds`` · ``peak_memory_bytes`` · ``retryable`` (only where it differs from the kind's rule: pip without a network,
and errors of the job's code that say so).

Own exit status: 0 succeeded · 1 the code failed · 2 the preparation failed · 124 the timeout · 137 killed or
out of memory, or another container took over (then there is no exit file) · 143 stopped after the notice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelway.job.agent import bare, cluster, launch, memory, process_tree, requirements, usage
from modelway.job.agent.exit_report import INIT_STATUS, STOPPED_STATUS, ExitReport, report_of
from modelway.job.agent.follower import Follower
from modelway.job.agent.lease import Lease
from modelway.job.agent.notice import Notice
from modelway.job.agent.remote import Remote
from modelway.job.agent.tee import PlainLog, Tee

TAKEN_OVER_STATUS = 137
#: variables that, where there is no container, the job does not see: the URLs of pip's settings may hold a password
PRIVATE = ("PIP_", "MODELWAY_STARTED_BY")
RESERVE_BYTES = 64 * 1024


@dataclass
class Agent:
    """One attempt of a job on one machine."""

    folder: Path
    arguments: argparse.Namespace
    started: float = field(default_factory=time.monotonic)
    stop_requested_at: float | None = None
    node: int = 0
    installing: bool = False

    @property
    def attempt(self) -> Path:
        """The folder of the attempt."""
        return self.folder / f"try-{self.arguments.attempt}"

    def run(self) -> int:
        """Run the attempt; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_notice)
        process_tree.adopt_orphans()
        if self.arguments.remote is None:
            return self._run_in_folder()
        remote = Remote(
            uri=self.arguments.remote, folder=self.folder, attempt=self.arguments.attempt, node=int(self.arguments.node)
        )
        if not remote.enter(leave=lambda: self.stop_requested_at is not None, say=_print):
            return STOPPED_STATUS
        remote.restore()
        remote.start()
        try:
            return self._run_in_folder()
        finally:
            remote.finish()

    def _run_in_folder(self) -> int:
        try:
            self.attempt.mkdir(exist_ok=True)
            wanted = self.arguments
            if wanted.bare and not bare.begin(self.attempt, cpu=wanted.cpu, lock=wanted.cores_lock):
                return TAKEN_OVER_STATUS
            json.loads((self.folder / "job.json").read_text())
            node = None if self.arguments.node == "any" else int(self.arguments.node)
            lease = Lease(attempt=self.attempt, node=node, nodes=self.arguments.nodes)
            entered = lease.enter(leave=lambda: self.stop_requested_at is not None, say=self._say_before)
        except (OSError, ValueError) as error:
            print(f"the job's folder cannot be used: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return INIT_STATUS
        self.node = lease.node or 0
        if not entered:
            report = ExitReport(kind="killed", stopped=True, reason="the job was requested to stop before it began")
            self._write(report)
            return report.status
        try:
            return self._run_alone(lease)
        finally:
            lease.leave()

    def _say_before(self, text: str) -> None:
        """Log a line before the job's output is copied."""
        _print(text)
        if self.arguments.node != "any":
            with (self.attempt / f"log-{self.arguments.node}.txt").open("a") as log:
                log.write(text + "\n")

    def _run_alone(self, lease: Lease) -> int:
        self._remove_earlier_reports()
        self._reserve()
        scratch = Path(tempfile.mkdtemp(prefix="modelway-"))
        log = self.attempt / f"log-{self.node}.txt"
        output = PlainLog(log=log) if self.arguments.bare else Tee(log=log)
        account = usage.Account(attempt=self.attempt, node=self.node)
        notice = Notice(attempt=self.attempt, node=self.node)
        try:
            report = self._run_code(lease, output, scratch, account, notice)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            account.write()
        output.finish(within_seconds=5)
        if lease.lost.is_set():
            _print("another container has taken over this job: this one exits")
            return TAKEN_OVER_STATUS
        report.seconds = round(time.monotonic() - self.started, 3)
        self._write(report)
        return report.status

    def _run_code(
        self, lease: Lease, output: PlainLog | Tee, scratch: Path, account: usage.Account, notice: Notice
    ) -> ExitReport:
        """Install what is missing, start the job's code and follow it; the output's writing end is closed on return."""
        killed_before = memory.kills()
        try:
            self.installing = True
            python = requirements.python_for(
                requirements=self.folder / "code" / "requirements.txt",
                scratch=scratch,
                say=output.say,
                venvs=self.arguments.venvs,
            )
            self.installing = False
            child = self._start(python, output.writer, notice)
        except _StopRequested as request:
            process_tree.end_all(within_seconds=5)
            return ExitReport(kind="killed", stopped=True, reason=str(request))
        except requirements.RequirementsFailed as error:
            return ExitReport(kind="init", reason=str(error)[:1000], retryable=True if error.offline else None)
        except Exception as error:
            # Any error here is reported as an outcome, or the job would count as vanished.
            output.say(traceback.format_exc())
            return ExitReport(kind="init", reason=f"the job could not be run: {type(error).__name__}: {error}"[:1000])
        finally:
            os.close(output.writer)
        memory.be_killed_first(child.pid)
        follow = Follower(
            child=child.pid,
            lease=lease,
            account=account,
            notice=notice,
            say=output.say,
            stop_requested_at=lambda: self.stop_requested_at,
            grace_seconds=self.arguments.grace,
            timeout_seconds=self.arguments.timeout,
            most_bytes=self.arguments.memory if self.arguments.bare or self.arguments.enforce_memory else None,
            cancelled=self.attempt / bare.CANCELLED if self.arguments.bare else None,
            measures=bool(self.arguments.memory) or not self.arguments.bare,
        )
        child.returncode = follow.until_the_end()
        process_tree.end_all(within_seconds=5)
        output.finish(within_seconds=5)
        return report_of(
            attempt=self.attempt,
            returncode=child.returncode,
            lines=list(output.last_lines),
            over_time=self.arguments.timeout if follow.over_time else None,
            killed_for_memory=follow.over_memory
            or memory.killed_one_of(killed_before, returncode=child.returncode, alone=not self.arguments.bare),
            peak_bytes=max(follow.peak, process_tree.largest_bytes()),
            limit_bytes=self.arguments.memory or memory.limit_bytes(),
            noticed=notice.delivered,
            ended_by_force=follow.sent_term is not None,
        )

    def _start(self, python: str, writer: int, notice: Notice) -> subprocess.Popen[bytes]:
        command = launch.command(
            python=python,
            folder=self.folder,
            node=self.node,
            nodes=self.arguments.nodes,
            processes=self.arguments.processes,
            rendezvous=self.arguments.rendezvous,
        )
        variables = {
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "MODELWAY_TRY": str(self.attempt),
            "MODELWAY_NOTICE": str(notice.path),
            **({"MODELWAY_VENVS": str(self.arguments.venvs)} if self.arguments.venvs else {}),
        }
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self._inherited_variables(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            # Without a container, the processes that a killed agent leaves are found by its session.
            start_new_session=not self.arguments.bare,
        )

    def _inherited_variables(self) -> dict[str, str]:
        private = PRIVATE if self.arguments.bare else ()
        return {name: value for name, value in os.environ.items() if not name.startswith(private)}

    def _reserve(self) -> None:
        """Reserve space for the report: a full disk may be what ends the job."""
        if self.arguments.bare:
            with contextlib.suppress(OSError):
                (self.attempt / launch.RESERVE).write_bytes(os.urandom(RESERVE_BYTES))

    def _on_notice(self, number: int, frame: Any) -> None:
        """Record that the job must stop; the loop does the rest, since a handler may interrupt anything."""
        self.stop_requested_at = self.stop_requested_at or time.monotonic()
        if self.installing:
            self.installing = False
            raise _StopRequested("the job was requested to stop before its code began")

    def _remove_earlier_reports(self) -> None:
        """Remove the reports of an earlier container of this attempt, such as one that its platform restarted."""
        first, count = self.node * self.arguments.processes, self.arguments.processes
        left = [f"error-{rank}.json" for rank in range(first, first + count)]
        for name in (f"exit-{self.node}.json", *left):
            (self.attempt / name).unlink(missing_ok=True)

    def _write(self, report: ExitReport) -> None:
        (self.attempt / launch.RESERVE).unlink(missing_ok=True)
        path = self.attempt / f"exit-{self.node}.json"
        beside = path.with_name(f".{path.name}.part")
        with beside.open("w") as file:
            file.write(report.to_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


class _StopRequested(Exception):
    """The notice came before there was anything to save."""


def _print(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelway.job.agent", description="Run one attempt of a job on this machine.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--node", default=os.environ.get("JOB_COMPLETION_INDEX") or "0")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rendezvous")
    parser.add_argument("--memory", type=int)
    parser.add_argument("--enforce-memory", action="store_true")
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--remote")
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--venvs", type=Path)
    parser.add_argument("--cpu", type=float)
    parser.add_argument("--cores-lock", type=Path)
    return parser


def main(argv: list[str]) -> int:
    """Run the attempt that the command line names."""
    parser = _arguments()
    arguments = parser.parse_args(argv)
    if arguments.nodes > 1 and arguments.rendezvous is None:
        try:
            place = cluster.place_of(os.environ)
        except ValueError as error:
            parser.error(f"--rendezvous is missing, and {error}")
        arguments.node, arguments.nodes, arguments.rendezvous = str(place.node), place.nodes, place.rendezvous
    if arguments.node != "any" and not arguments.node.isdigit() or arguments.node == "any" and arguments.remote:
        parser.error(f"--node {arguments.node}: give a number, or 'any' on storage that all containers see")
    return Agent(folder=arguments.folder.absolute(), arguments=arguments).run()


if __name__ == "__main__":
    # A hard exit: the copying thread may still wait for a reader of standard output.
    _status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(_status)
