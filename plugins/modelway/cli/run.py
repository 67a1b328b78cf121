"""``modelway run MODEL``: the model's DAG in one process, without any server."""

import argparse
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._lineage import time_of
from modelway.errors import ModelwayError
from modelway.lineage.records.times import parse_time

if TYPE_CHECKING:
    from rich.console import Console

    from modelway.localairflow.processes import LocalAirflow
    from modelway.spec.model import ModelSpec

    Follow = Callable[["subprocess.Popen[bytes]"], None]

#: how many lines of its log are repeated when the process that runs the DAG crashes
LAST_LINES = 15
#: with less left, Airflow's database cannot be written
ALMOST_FULL_BYTES = 1 << 20


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run a model's DAG here, without an Airflow server",
        description="Run a model's DAG in one process, to a version that serves. Exit status: 0 done, 1 failed.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--seed", type=int, help="seed of this run (default: the model spec's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field of the run's form, such as epochs=5 or rollout=no; may be repeated",
    )
    parser.add_argument("--run-after", metavar="TIME", help="as if it was started then: the data ends there")
    parser.add_argument(
        "--interval",
        nargs=2,
        metavar=("START", "END"),
        help="the data interval, as a schedule sets it",
    )
    parser.add_argument(
        "--partition", metavar="KEY", help="the run's name for its data (default: the interval's start)"
    )
    parser.add_argument("--verbose", action="store_true", help="print all that Airflow logs, in place of the table")
    parser.set_defaults(run=run_model)


def run_model(args: argparse.Namespace) -> int:
    """Run the DAG through Airflow's ``dag.test()`` and print its progress, then the summary, or why it failed."""
    from modelway.cli._model_spec import model_spec
    from modelway.hooks.settings import load_settings

    spec = model_spec(args.model)
    about = set_by_schedule(spec, run_after=args.run_after, interval=args.interval, partition=args.partition)

    _refuse_approval(spec, args.set)
    from modelway.cli._endpoints import serving_lines
    from modelway.localairflow.dag_files import repository
    from modelway.localairflow.home_lock import only_one
    from modelway.localairflow.interrupts import interrupt_once
    from modelway.localairflow.jobs_elsewhere import names_elsewhere, stop_jobs_elsewhere
    from modelway.localairflow.leftovers import recorded_start
    from modelway.localairflow.processes import LocalAirflow
    from modelway.localairflow.unfinished_runs import close_unfinished_runs

    settings = load_settings()
    command = f"modelway run {args.model}"
    interrupt_once()
    with (
        only_one(settings.home, command=command),
        recorded_start(settings.home, command=command, serving=settings.endpoint_root) as (mark, left),
    ):
        if left:
            print(left)
        # Its own database: a scheduler that shared it would run the tasks a second time.
        airflow = LocalAirflow(home=settings.home, repository=repository(), environment=mark, name="airflow-run")
        # Airflow itself is imported only by the process that runs the DAG.
        airflow.prepare(migrate=False)
        for line in stop_jobs_elsewhere(settings.home, environment=airflow.environment):
            print(line)
        tried = names_elsewhere(settings.home)
        log = _new_log(settings.home, args.model)
        try:
            # Of a command that was killed.
            close_unfinished_runs(airflow, log=log)
            try:
                return _run(args, spec, airflow, about, log)
            finally:
                close_unfinished_runs(airflow, log=log)
        except KeyboardInterrupt:
            message = f"the run of {args.model} was stopped with its jobs on this machine; its log is {log}"
            print("\n".join([f"modelway: {message}", *serving_lines(settings)]), file=sys.stderr)
            return 130
        finally:
            # A run that came to its end leaves none.
            for line in stop_jobs_elsewhere(settings.home, environment=airflow.environment, but=tried):
                print(f"modelway: {line}", file=sys.stderr)


def _refuse_approval(spec: "ModelSpec", assignments: Sequence[str]) -> None:
    """Refuse a rollout that a person has to approve: without a server, nobody can.

    :raises ModelwayError: it is one
    """
    chosen = dict(assignment.partition("=")[::2] for assignment in assignments)
    environment, rollout = (chosen.get(name, "").strip('"') or None for name in ("environment", "rollout"))
    is_free = rollout in ("no", "rollback") or spec.serving(environment).is_development
    if spec.rollout.approval and not is_free:
        raise ModelwayError(
            "a person has to approve this rollout in Airflow (rollout.approval), and this runs without its server",
            where=str(spec.folder / "model.yaml"),
            do="Trigger the DAG in an Airflow, or register the version only: --set rollout=no",
        )


def _run(
    args: argparse.Namespace, spec: "ModelSpec", airflow: "LocalAirflow", about: Mapping[str, Any], log: Path
) -> int:
    """Run the DAG and print its outcome."""
    from rich.console import Console

    from modelway.cli.output.progress import follow, task_order
    from modelway.localairflow.run_database import RecordedRun

    console, outcome = Console(), log.with_suffix(".json")

    def show(process: "subprocess.Popen[bytes]") -> None:
        def running() -> bool:
            return process.poll() is None

        if args.verbose:
            _copy(log, running)
            return
        run = RecordedRun(airflow.folder / "airflow.db", dag_id=spec.model, running=running)
        with console.status(f"starting the DAG {spec.model}") as status:
            while run.run_id() is None and running():
                time.sleep(0.2)
            status.stop()
        if found := run.run_id():
            console.print(f"DAG {spec.model}, run {found}", highlight=False, soft_wrap=True)
        follow(console, run=run, order=task_order(spec), poll_seconds=0.5)

    seed = [] if args.seed is None else [f"seed={args.seed}"]
    words = [spec.model, json.dumps(about), str(outcome), *seed, *args.set]
    status = _in_a_process(words, airflow, log=log, follow=show)
    return _print_outcome(console, outcome, log, status=status)


def _new_log(home: Path, model: str) -> Path:
    """Return a new file for everything that a run prints, which its owner alone can read."""
    folder = home / "runs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{model}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def _copy(log: Path, running: Callable[[], bool]) -> None:
    """Print what is written to a log until its writer has ended."""
    with log.open(encoding="utf-8", errors="replace") as file:
        while True:
            is_last = not running()
            sys.stdout.write(file.read())
            sys.stdout.flush()
            if is_last:
                return
            time.sleep(0.1)


def _print_outcome(console: "Console", outcome: Path, log: Path, *, status: int) -> int:
    """Print the summary of a run that succeeded, or why it did not; return the exit status.

    :param status: that of the process that ran the DAG, negative where a signal ended it
    :raises ModelwayError: the process that ran the DAG rejected its values, or crashed
    """
    from modelway.cli.output.summary import Extras, print_failure, print_summary

    if not outcome.exists() or not outcome.stat().st_size:
        if shutil.disk_usage(log).free < ALMOST_FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.parents[1]))
        last = "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        how = (
            f"was ended by signal {-status} ({signal.strsignal(-status)})"
            if status < 0
            else f"ended with exit status {status}"
        )
        raise ModelwayError(
            f"the process that ran the DAG {how} before it had an outcome",
            where=str(log),
            do=f"Its log ends like this:\n{last}",
        )
    came = json.loads(outcome.read_text())
    outcome.unlink()
    if "refused" in came:
        print(f"modelway: {came['refused']}", file=sys.stderr)
        return 1
    # Of mapped tasks the last one's, where a summary reads one.
    values = {(task, key): value for task, _, key, value in came["values"]}
    if came["state"] == "success":
        links = {"run log": str(log)}
        print_summary(console, xcom=lambda task, key: values.get((task, key)), extras=Extras(links=links))
        return 0
    reasons = {(task, index): value for task, index, key, value in came["values"] if key == "failure"}
    failures = {
        task if index < 0 else f"{task}[{index}]": reasons.get((task, index), "See its lines in the run's log.")
        for task, index in came["failed"]
    }
    print_failure(console, failures=failures)
    console.print(f"\nrun log: {log}", markup=False, highlight=False, soft_wrap=True)
    return 1


def set_by_schedule(
    spec: "ModelSpec",
    *,
    run_after: str | None = None,
    interval: Sequence[str] | None = None,
    partition: str | None = None,
) -> dict[str, Any]:
    """Return what a schedule would set for the run, as plain data: ``{run_after, interval: [start, end], partition}``.

    :raises ModelwayError: a time is invalid, or the interval ends before it begins
    """
    after, sides = time_of(run_after), None
    if interval:
        sides = [_moment(text) for text in interval]
        if sides[0] >= sides[1]:
            raise ModelwayError(
                f"the interval is empty: its start {interval[0]} is not before its end {interval[1]}", do="Swap them"
            )
    elif after and spec.schedule and spec.schedule.cron:
        from modelway.hooks.interval import last_interval

        sides = list(last_interval(spec.schedule.cron, spec.schedule.timezone, before=after))
    return {
        "run_after": after and after.isoformat(),
        "interval": sides and [time.isoformat() for time in sides],
        "partition": partition,
    }


def _moment(text: str) -> datetime:
    """Parse a time; a day means its start.

    :raises ModelwayError: it is not a time
    """
    time = parse_time(text)
    return datetime.combine(time.date(), datetime.min.time(), UTC) if len(text) <= len("2026-03-01") else time


def run_conf(spec: "ModelSpec", assignments: Sequence[str]) -> dict[str, Any]:
    """Return the values of a run's form from ``NAME=VALUE``, each value read as YAML.

    :raises ModelwayError: one is written otherwise, its name is no field of the form, or its value does not fit
    """
    if not assignments:
        return {}
    import yaml
    from airflow.sdk.exceptions import ParamValidationError

    from modelway.dag.form import run_form

    form, conf = run_form(spec), dict[str, Any]()
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ModelwayError(f"'{assignment}' is not a value of a field", do="Write --set NAME=VALUE")
        if name not in form:
            raise ModelwayError(f"the run has no field '{name}'", known=sorted(form), given=name)
        try:
            value = yaml.safe_load(text)
            # A version's number is text all the same.
            is_text = isinstance(value, int | float) and "string" in form[name].schema["type"]
            conf[name] = form[name].resolve(text if is_text else value)
        except (yaml.YAMLError, ParamValidationError) as error:
            raise ModelwayError(f"'{text}' does not fit the field '{name}': {str(error).splitlines()[0]}") from None
    return conf


def _in_a_process(arguments: list[str], airflow: "LocalAirflow", *, log: Path, follow: "Follow") -> int:
    """Run the DAG in a process of its own and return its exit status; only what serves is left running.

    Airflow treats an interrupt as a failed task, which it retries, and replaces our signal handler with its own: only
    another process than the one that it runs in can end it.

    :param log: gets everything that the process prints
    :param follow: called meanwhile, with the process
    """
    from modelway.localairflow.interrupts import ignore_interrupts
    from modelway.localairflow.processes import adopt_orphans, dies_with_parent, stop_descendants

    adopt_orphans()
    process = None
    try:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    # A library that aborts leaves its stack in the log. Airflow takes SIGSEGV for itself.
                    [sys.executable, "-P", "-X", "faulthandler", "-m", "modelway.cli._dag_test", *arguments],
                    env=airflow.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=dies_with_parent(signal.SIGKILL),
                )
            follow(process)
            return process.wait()
        finally:
            ignore_interrupts()
    finally:
        if process:
            process.kill()
            process.wait()
        stop_descendants(spare=airflow.home / "endpoints")
