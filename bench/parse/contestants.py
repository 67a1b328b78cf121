"""The folders of DAG files that are compared: each holds N DAGs of the same tasks in the same order."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: task → the tasks before it, by group: what modelway's own DAG of the model digits has
Tasks = Mapping[str, Sequence[str]]

#: writes a folder of DAG files
Writer = Callable[..., None]

EMPTY = "airflow.providers.standard.operators.empty.EmptyOperator"

FLOOR = '''\
"""The floor: the same tasks as a hand-written Airflow DAG file."""

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TaskGroup

TASKS = {tasks}
for number in range({size}):
    with DAG(
        dag_id=f"model-{{number:04d}}",
        schedule=None,
        tags={{"demo"}},
        max_active_runs=1,
        default_args={{"owner": "vision", "retries": 2, "retry_delay": timedelta(seconds=10)}},
        params={{"seed": Param(1, type="integer", minimum=0)}},
    ) as dag:
        groups, made = {{}}, {{}}
        for task_id, before in TASKS.items():
            group, _, label = task_id.rpartition(".")
            if group and group not in groups:
                groups[group] = TaskGroup(group)
            made[task_id] = EmptyOperator(task_id=label, task_group=groups.get(group))
            made[task_id].set_upstream([made[name] for name in before])
    globals()[dag.dag_id] = dag
'''

DAG_FACTORY = '''\
"""Loads the YAML files beside it (airflow DAGs)."""

from pathlib import Path

from dagfactory import load_yaml_dags

load_yaml_dags(globals(), dags_folder=str(Path(__file__).parent))
'''

BLUEPRINT_TEMPLATES = '''\
"""The pipeline as one blueprint (airflow DAGs)."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TaskGroup
from blueprint import BaseModel, Blueprint

TASKS = {tasks}


class PipelineConfig(BaseModel):
    owner: str


class Pipeline(Blueprint[PipelineConfig]):
    def render(self, config: PipelineConfig) -> TaskGroup:
        groups, made = {{}}, {{}}
        with TaskGroup(group_id=self.step_id) as whole:
            for task_id, before in TASKS.items():
                group, _, label = task_id.rpartition(".")
                if group and group not in groups:
                    groups[group] = TaskGroup(group)
                made[task_id] = EmptyOperator(
                    task_id=label, owner=config.owner, retries=2, task_group=groups.get(group, whole)
                )
                made[task_id].set_upstream([made[name] for name in before])
        return whole
'''

BLUEPRINT = '''\
"""Loads the YAML files beside it (airflow DAGs)."""

from blueprint import build_all_airflow_dags

build_all_airflow_dags()
'''


def write_floor(folder: Path, *, size: int, tasks: Tasks) -> None:
    """Write one DAG file by hand."""
    (folder / "models.py").write_text(FLOOR.format(tasks=json.dumps(tasks), size=size))


def write_modelway(folder: Path, *, size: int, tasks: Tasks) -> None:
    """The model digits ``size`` times, each as its two files."""
    shutil.copy(REPOSITORY / "dags" / "models.py", folder)
    digits = REPOSITORY / "include" / "models" / "digits"
    for number in range(size):
        name = f"model-{number:04d}"
        model = folder / "models" / name
        model.mkdir(parents=True)
        text = (digits / "model.yaml").read_text()
        (model / "model.yaml").write_text(text.replace("model: digits\n", f"model: {name}\n"))
        shutil.copy(digits / "digits.py", model / f"{name.replace('-', '_')}.py")
    (folder / ".airflowignore").write_text("models/\n")


def write_dag_factory(folder: Path, *, size: int, tasks: Tasks) -> None:
    """Write one YAML file for each DAG, as dag-factory reads it."""
    (folder / "models.py").write_text(DAG_FACTORY)
    lines = [
        f"    {task_id.replace('.', '_')}: {{operator: {EMPTY}, "
        f"dependencies: {json.dumps([name.replace('.', '_') for name in before])}}}"
        for task_id, before in tasks.items()
    ]
    for number in range(size):
        head = [
            f"model-{number:04d}:",
            "  schedule: null",
            "  max_active_runs: 1",
            "  default_args: {owner: vision, retries: 2, retry_delay_sec: 10, start_date: 2026-01-01}",
            "  tasks:",
        ]
        (folder / f"model-{number:04d}.yaml").write_text("\n".join([*head, *lines]) + "\n")


def write_blueprint(folder: Path, *, size: int, tasks: Tasks) -> None:
    """Write one YAML file for each DAG, as airflow-blueprint reads it, and the blueprint that all of them use."""
    (folder / "templates.py").write_text(BLUEPRINT_TEMPLATES.format(tasks=json.dumps(tasks)))
    (folder / "models.py").write_text(BLUEPRINT)
    (folder / ".airflowignore").write_text("templates.py\n")
    for number in range(size):
        text = f"dag_id: model-{number:04d}\nsteps:\n  pipeline:\n    blueprint: pipeline\n    owner: vision\n"
        (folder / f"model-{number:04d}.dag.yaml").write_text(text)


CONTESTANTS: Mapping[str, Writer] = {
    "floor": write_floor,
    "modelway": write_modelway,
    "dag-factory": write_dag_factory,
    "airflow-blueprint": write_blueprint,
}
