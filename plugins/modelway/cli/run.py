"""``modelway run MODEL``: the model's DAG in one process, without any server."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._asked import time_of
from modelway.errors import ModelwayError
from modelway.lineage.moment import read_moment

if TYPE_CHECKING:
    from modelway.spec.model import ModelSpec


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
        help="a field of the run's form, such as epochs=5 or rollout=no; may be given again",
    )
    parser.add_argument("--run-after", metavar="TIME", help="as if it was started then: the data ends there")
    parser.add_argument(
        "--interval",
        nargs=2,
        metavar=("START", "END"),
        help="the data interval, as a schedule gives it",
    )
    parser.add_argument(
        "--partition", metavar="KEY", help="what the run calls its data (default: the interval's start)"
    )
    parser.set_defaults(run=run_model)


def repository() -> Path:
    """Return the folder that holds dags/ and plugins/."""
    return Path(__file__).resolve().parents[3]


def run_model(args: argparse.Namespace) -> int:
    """Run the DAG through Airflow's ``dag.test()`` and print the summary, or why it failed."""
    from modelway.cli._model_spec import model_spec
    from modelway.hooks.settings import load_settings

    about = told_by_schedule(
        model_spec(args.model), run_after=args.run_after, interval=args.interval, partition=args.partition
    )

    from modelway.cli._airflow_processes import LocalAirflow
    from modelway.cli._home_lock import only_one
    from modelway.cli._interrupts import interrupt_once

    settings = load_settings()
    interrupt_once()
    with only_one(settings.home, command=f"modelway run {args.model}"):
        # Its own database: a scheduler that shared it would run the tasks a second time.
        airflow = LocalAirflow(home=settings.home, repository=repository(), name="airflow-run")
        airflow.prepare()
        seed = [] if args.seed is None else [f"seed={args.seed}"]
        words = [args.model, json.dumps(about), *seed, *args.set]
        return _in_a_process(words, airflow.environment, serving=settings.endpoint_root)


def told_by_schedule(
    spec: "ModelSpec",
    *,
    run_after: str | None = None,
    interval: Sequence[str] | None = None,
    partition: str | None = None,
) -> dict[str, Any]:
    """Return what a schedule would tell the run, as plain data: ``{run_after, interval: [start, end], partition}``.

    :raises ModelwayError: a time is none, or the interval ends before it begins
    """
    after, sides = time_of(run_after), None
    if interval:
        sides = [_moment(text) for text in interval]
        if sides[0] >= sides[1]:
            raise ModelwayError(
                f"the interval is none: its start {interval[0]} is not before its end {interval[1]}", do="Swap them"
            )
    elif after and spec.schedule and spec.schedule.cron:
        from modelway.operators._interval import last_interval

        sides = list(last_interval(spec.schedule.cron, spec.schedule.timezone, before=after))
    return {
        "run_after": after and after.isoformat(),
        "interval": sides and [time.isoformat() for time in sides],
        "partition": partition,
    }


def _moment(text: str) -> datetime:
    """Read a time; a day means its start.

    :raises ModelwayError: it is none
    """
    time = read_moment(text)
    return datetime.combine(time.date(), datetime.min.time(), UTC) if len(text) <= len("2026-03-01") else time


def run_conf(spec: "ModelSpec", given: Sequence[str]) -> dict[str, Any]:
    """Return the values of a run's form from ``NAME=VALUE``, each value read as YAML.

    :raises ModelwayError: one is written otherwise, its name is no field of the form, or its value does not fit
    """
    if not given:
        return {}
    import yaml
    from airflow.sdk.exceptions import ParamValidationError

    from modelway.dag.form import run_form

    form, conf = run_form(spec), dict[str, Any]()
    for word in given:
        name, sign, text = word.partition("=")
        if not sign:
            raise ModelwayError(f"'{word}' is no value of a field", do="Write --set NAME=VALUE")
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


def _in_a_process(words: list[str], environment: dict[str, str], *, serving: Path) -> int:
    """Run this file with ``words``; whatever way that ends, nothing but what serves is left of it.

    Airflow takes an interrupt for a failed task, which it tries again, and puts its own handler in place of ours: only
    another process than the one that it runs in can end it.
    """
    from modelway.cli._airflow_processes import adopt_orphans, dies_with_parent, stop_descendants
    from modelway.cli._interrupts import ignore_interrupts

    adopt_orphans()
    process = None
    try:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "modelway.cli.run", *words],
                env=environment,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGKILL),
            )
            status = process.wait()
        finally:
            ignore_interrupts()
    finally:
        if process:
            process.kill()
            process.wait()
        stop_descendants(spare=serving)
    if status < 0:
        raise ModelwayError(f"the process that ran the DAG was killed by {signal.Signals(-status).name}")
    return status


def _main(model: str, about: str, given: Sequence[str]) -> int:
    """Run the DAG with values of its form, which needs an Airflow that has the settings of this home."""
    from modelway.cli._model_spec import model_spec

    try:
        conf = run_conf(model_spec(model), given)
    except ModelwayError as error:
        print(f"modelway: {error}", file=sys.stderr)
        return 1
    return _test(model, conf, **json.loads(about))


def _test(
    model: str, conf: dict[str, Any], *, run_after: str | None, interval: list[str] | None, partition: str | None
) -> int:
    """Run the DAG in this process."""
    from airflow.dag_processing.dagbag import DagBag
    from rich.console import Console

    from modelway.cli._summary import Extras, print_failure, print_summary

    dag = DagBag(dag_folder=str(repository() / "dags" / "models.py")).dags[model]
    # A run of one process calls no notifier; with a deadline, dag.test() of Airflow 3.3.2 ends in an AttributeError.
    dag.deadline = None
    dag.has_on_failure_callback = dag.has_on_success_callback = False
    _give(interval, partition)
    run = dag.test(run_conf=conf, run_after=datetime.fromisoformat(run_after) if run_after else None)
    console = Console()
    values = _xcoms(model, run.run_id)
    if run.state == "success":
        print_summary(console, xcom=lambda task, key: values.get((task, key)), extras=Extras())
        return 0
    failed = {ti.task_id: "see its log above" for ti in run.get_task_instances() if ti.state == "failed"}
    print_failure(console, failures={task: values.get((task, "failure"), reason) for task, reason in failed.items()})
    return 1


def _give(interval: list[str] | None, partition: str | None) -> None:
    """Give the run its data interval and partition: dag.test() takes neither, and counts the interval from now."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import event

    def fill(_mapper: Any, _connection: Any, run: Any) -> None:
        if interval:
            run.data_interval_start, run.data_interval_end = map(datetime.fromisoformat, interval)
        run.partition_key = partition

    event.listen(DagRun, "before_insert", fill)


def _xcoms(dag_id: str, run_id: str) -> dict[tuple[str, str], Any]:
    """Return the run's XCom values by task and key; of mapped tasks the last one's."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run_id))
        return {(row.task_id, row.key): XComModel.deserialize_value(row) for row in rows}


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2], sys.argv[3:]))
