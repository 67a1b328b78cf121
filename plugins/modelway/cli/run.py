"""``modelway run MODEL``: the model's DAG in one process, without any server."""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._asked import time_of
from modelway.errors import ModelwayError

if TYPE_CHECKING:
    from modelway.spec.model import ModelSpec

#: begins a word for the process that runs the DAG; no field of a form begins so
_AFTER = "--run-after="


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
    parser.set_defaults(run=run_model)


def repository() -> Path:
    """Return the folder that holds dags/ and plugins/."""
    return Path(__file__).resolve().parents[3]


def run_model(args: argparse.Namespace) -> int:
    """Run the DAG through Airflow's ``dag.test()`` and print the summary, or why it failed."""
    from modelway.cli._model_spec import model_spec
    from modelway.hooks.settings import load_settings

    model_spec(args.model)
    time_of(args.run_after)

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
        after = [] if args.run_after is None else [f"{_AFTER}{time_of(args.run_after)}"]
        words = [args.model, *after, *seed, *args.set]
        return _in_a_process(words, airflow.environment, serving=settings.endpoint_root)


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


def _main(model: str, given: Sequence[str]) -> int:
    """Run the DAG with values of its form, which needs an Airflow that has the settings of this home."""
    from modelway.cli._model_spec import model_spec

    after = next((word.removeprefix(_AFTER) for word in given if word.startswith(_AFTER)), None)
    try:
        conf = run_conf(model_spec(model), [word for word in given if not word.startswith(_AFTER)])
    except ModelwayError as error:
        print(f"modelway: {error}", file=sys.stderr)
        return 1
    return _test(model, conf, run_after=time_of(after))


def _test(model: str, conf: dict[str, Any], *, run_after: datetime | None) -> int:
    """Run the DAG in this process."""
    from airflow.dag_processing.dagbag import DagBag
    from rich.console import Console

    from modelway.cli._summary import Extras, print_failure, print_summary

    dag = DagBag(dag_folder=str(repository() / "dags" / "models.py")).dags[model]
    # A run of one process calls no notifier; with a deadline, dag.test() of Airflow 3.3.2 ends in an AttributeError.
    dag.deadline = None
    dag.has_on_failure_callback = dag.has_on_success_callback = False
    run = dag.test(run_conf=conf, run_after=run_after)
    console = Console()
    values = _xcoms(model, run.run_id)
    if run.state == "success":
        print_summary(console, xcom=lambda task, key: values.get((task, key)), extras=Extras())
        return 0
    failed = {ti.task_id: "see its log above" for ti in run.get_task_instances() if ti.state == "failed"}
    print_failure(console, failures={task: values.get((task, "failure"), reason) for task, reason in failed.items()})
    return 1


def _xcoms(dag_id: str, run_id: str) -> dict[tuple[str, str], Any]:
    """Return the run's XCom values by task and key; of mapped tasks the last one's."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run_id))
        return {(row.task_id, row.key): XComModel.deserialize_value(row) for row in rows}


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2:]))
