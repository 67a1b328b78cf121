"""What every operator promises an author: few keyword-only parameters, templated, documented."""

import importlib
import inspect
import pkgutil
from datetime import timedelta
from types import SimpleNamespace

import modelway.operators
import pytest
from airflow.sdk import DAG, BaseOperator
from modelway.backends.base import JobState, JobStatus
from modelway.dag import build_dag
from modelway.job.contract import Job
from modelway.operators.base import ModelwayOperator
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.environment_operator import EnvironmentOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.job_operator import JobOperator
from modelway.operators.train import TrainModelOperator
from modelway.spec.load import load_spec

from tests.job_folders import write_job

ARTIFACT = {"uri": "file:///c", "digest": "sha256:c", "size": 1}
CODE = {"model": "tiny", "module": "tiny.py", **ARTIFACT}
#: what several operators have in common
SHARED = (JobOperator, EnvironmentOperator)
OPERATORS = sorted(
    {
        value
        for module in pkgutil.iter_modules(modelway.operators.__path__)
        if not module.name.startswith("_")
        for value in vars(importlib.import_module(f"modelway.operators.{module.name}")).values()
        if inspect.isclass(value) and issubclass(value, ModelwayOperator) and value not in (ModelwayOperator, *SHARED)
    },
    key=lambda operator: operator.__name__,
)


def parameters(operator: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    """Return an operator's own parameters, and those that it shares with others."""
    classes = [operator, *(shared for shared in SHARED if issubclass(operator, shared))]
    own: dict[str, inspect.Parameter] = {}
    for each in classes:
        signature = inspect.signature(inspect.unwrap(each.__init__))
        own |= {
            name: parameter
            for name, parameter in signature.parameters.items()
            if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
    return own


def test_all_operators_are_found():
    assert len(OPERATORS) == 19


def test_attributes_are_set_as_airflow_sets_them(monkeypatch):
    def made() -> dict[str, object]:
        with DAG("d", schedule=None, default_args={"retry_delay": 30}):
            task = DivideCheckpointsOperator(task_id="t", code=CODE, checkpoints=[], retries="3", max_retry_delay=60)
        task.retries, task.parallel = "4", 2
        values = vars(task)
        arguments = {name: values["_BaseOperator__init_kwargs"][name] for name in ("task_id", "code", "retries")}
        return {**values, "_dag": None, "task_group": None, "_BaseOperator__init_kwargs": arguments}

    quick = made()
    monkeypatch.delattr(ModelwayOperator, "__setattr__")
    assert quick == made()
    assert (quick["retries"], quick["parallel"], quick["retry_delay"]) == (4, 2, timedelta(seconds=30))


@pytest.mark.parametrize("operator", OPERATORS)
def test_parameters_are_few_keyword_only_templated_and_documented(operator):
    own = parameters(operator)
    assert 1 <= len(own) <= 12
    documented = inspect.getdoc(operator)
    for name, parameter in own.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
        assert f":param {name}:" in documented, name
        assert name in operator.template_fields, name
    assert "Returns " in documented


def test_text_in_a_spec_that_looks_like_a_template_stays_as_it_is(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "model.yaml").write_text(
        "model: tiny\ndescription: says {{ hello }}\n"
        "train: {params: {prompt: 'Hello {{ name }}', block: \"a\\nb\\n\"}}\n"
        "evaluate: {command: [echo, '{{ ds }}']}\n"
        "freeze: {format: files, command: [save, '{{ ds }}']}\n"
    )
    (folder / "tiny.py").write_text("def train(job): ...\ndef export(job, checkpoint): ...\n")
    dag = build_dag(load_spec(folder))
    train, freeze, register = (dag.get_task(name) for name in ("train.train", "freeze.freeze", "freeze.register"))
    for task in (train, freeze, register):
        for name in ("code", "start_from", "training", "selected", "archive", "verified"):
            if hasattr(task, name):
                setattr(task, name, None)
        task.render_template_fields({"params": {"seed": 7}})
    assert train.job_params == {"prompt": "Hello {{ name }}", "block": "a\nb\n"}
    assert train.seed == "7"
    assert (freeze.format, list(freeze.command)) == ("files", ["save", "{{ ds }}"])
    assert register.spec["description"] == "says {{ hello }}"
    assert register.spec["evaluate"]["command"] == ["echo", "{{ ds }}"]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Collect what a stage with five checkpoints wrote, where Airflow maps tasks over two."""
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    folder = write_job(tmp_path / "job")
    job = Job(folder)
    for step in range(1, 6):
        with job.checkpoint(step=step) as path:
            path.write_text("x")

    def collect(operator):
        context = {"ti": SimpleNamespace(xcom_push=lambda key, value: None)}
        job = SimpleNamespace(model="tiny", params={}, seed=0)
        made = operator.collect(context, job=job, folder=folder, status=JobStatus(state=JobState.SUCCEEDED))
        return [each["step"] for each in made]

    return collect


def test_of_more_checkpoints_than_airflow_maps_over_evenly_spaced_ones_go_on(trained):
    """Training must not be lost when it is done; Airflow refuses to store a longer list that a task is mapped over."""
    with DAG("tiny", schedule=None):
        train = TrainModelOperator(task_id="train", code={"model": "tiny"})
        EvaluateCheckpointOperator.partial(task_id="evaluate", code={}).expand(checkpoint=train.output)
    assert trained(train) == [2, 5]


def test_checkpoints_that_are_divided_all_go_on(trained):
    with DAG("tiny", schedule=None):
        train = TrainModelOperator(task_id="train", code={"model": "tiny"})
        divide = DivideCheckpointsOperator(task_id="divide", code=CODE, checkpoints=train.output, per_job=1)
        EvaluateCheckpointOperator.partial(task_id="evaluate", code={}).expand(checkpoint=divide.output)
    steps = trained(train)
    assert steps == [1, 2, 3, 4, 5]
    divide.checkpoints = [
        {**ARTIFACT, "id": f"train-{step}", "digest": f"sha256:{step}", "step": step} for step in steps
    ]
    assert [[each["step"] for each in batch] for batch in divide.run({})] == [[1, 2], [3, 4, 5]]
