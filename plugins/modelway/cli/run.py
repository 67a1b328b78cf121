"""``modelway run MODEL``: the model's DAG in this process, without any server."""

import argparse
import os
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("run", help="run a model's DAG here, without an Airflow server")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--seed", type=int, help="seed of this run (default: the model spec's)")
    parser.set_defaults(run=run_model)


def repository() -> Path:
    """Return the folder that holds dags/ and plugins/."""
    return Path(__file__).resolve().parents[3]


def run_model(args: argparse.Namespace) -> int:
    """Run the DAG through Airflow's ``dag.test()`` and print the summary, or why it failed."""
    from modelway.errors import InvalidSpec, UnknownModel
    from modelway.hooks.settings import load_settings
    from modelway.spec.load import load_specs, models_folder

    loaded = load_specs(models_folder())
    if args.model not in loaded.specs:
        broken = [problem for problem in loaded.problems if Path(problem.file).parent.name == args.model]
        if broken:
            raise InvalidSpec("\n".join(map(str, broken)))
        raise UnknownModel(
            f"there is no model '{args.model}'", where=str(models_folder()), known=loaded.specs, given=args.model
        )

    from modelway.cli._airflow_processes import LocalAirflow

    # Its own database: a scheduler that shared it would run the tasks a second time.
    airflow = LocalAirflow(home=load_settings().home, repository=repository(), name="airflow-run")
    airflow.prepare()
    os.environ.update(airflow.environment)
    return _test(args.model, {} if args.seed is None else {"seed": args.seed})


def _test(model: str, conf: dict[str, Any]) -> int:
    """Run the DAG; Airflow is imported only now, when its settings are in the environment."""
    from airflow.dag_processing.dagbag import DagBag
    from rich.console import Console

    from modelway.cli._summary import Extras, print_failure, print_summary

    dag = DagBag(dag_folder=str(repository() / "dags" / "models.py")).dags[model]
    run = dag.test(run_conf=conf)
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
