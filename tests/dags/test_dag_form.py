"""The form of a run: what a person sees, and which values Airflow takes."""

import copy
import re
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException
from modelway.spec.load import load_spec
from modelway.spec.options import options_of

PARAMS = """\
params:
  epochs: {default: 4, minimum: 1, maximum: 100, description: How often}
  rate: {default: 0.1, minimum: 0}
  augment: true
  optimizer: {default: adam, choices: [adam, sgd]}
  width: {default: 8, choices: [8, 16]}
train: {seed: 3, base: champion, stages: [{name: warmup}, {name: finetune}]}
"""


@pytest.fixture
def form(dag_of):
    dag = dag_of(PARAMS)
    return {name: dag.params.get_param(name) for name in dag.params}


def test_every_field_says_what_it_is_and_where_it_stands(form):
    own = ["epochs", "rate", "augment", "optimizer", "width"]
    assert list(form) == [*own, "version", "rollout", "reason", "skip", "base", "seed", "hold_at"]
    for name, param in form.items():
        assert param.schema["title"], name
        assert name in own or param.description, name


def test_what_is_chosen_most_often_is_first_in_the_section_that_airflow_opens(form, dag_of):
    # Airflow opens the section of this name, and draws sections and fields in the order of the parameters.
    (page,) = (Path(airflow.__file__).parent / "ui/dist/assets").glob("index-*.js")
    assert re.search("=`Run Parameters`[,;]", page.read_text(encoding="utf-8"))
    sections = [param.schema["section"] for param in form.values()]
    assert sections == ["Run Parameters"] * 8 + ["More about training and traffic"] * 4
    served = dag_of("endpoint: {environments: {dev: {}, prod: {}}}\n", name="served").params
    named = [(name, served.get_param(name).schema["section"]) for name in served][:2]
    assert named == [("environment", "Run Parameters"), ("version", "Run Parameters")]


def test_the_defaults_are_the_specs_and_fit(form):
    assert {name: param.value for name, param in form.items()} == {
        "skip": [],
        "version": None,
        "base": None,
        "rollout": "auto",
        "hold_at": None,
        "seed": 3,
        "reason": None,
        "epochs": 4,
        "rate": 0.1,
        "augment": True,
        "optimizer": "adam",
        "width": 8,
    }
    for param in form.values():
        jsonschema.Draft202012Validator.check_schema(param.schema)
        param.resolve()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skip", ["warmup"]),
        ("skip", ["finetune", "warmup"]),
        ("skip", None),
        ("version", "3"),
        ("version", "champion"),
        ("base", None),
        ("base", "none"),
        ("rollout", "no"),
        ("hold_at", 99),
        ("seed", 2**32 - 1),
        ("reason", "drift in `x` <b>"),
        ("epochs", 100),
        ("rate", 1),
        ("augment", False),
        ("optimizer", "sgd"),
        ("width", 16),
    ],
)
def test_a_good_value_is_taken(form, name, value):
    assert form[name].resolve(value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skip", ["nonsense"]),
        ("skip", "warmup"),
        ("skip", ["warmup", "warmup"]),
        ("version", 3),
        ("version", ""),
        ("version", "../x"),
        ("rollout", "maybe"),
        ("hold_at", 0),
        ("hold_at", 100),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", None),
        ("seed", float("nan")),
        ("reason", "x" * 501),
        ("epochs", 0),
        ("epochs", 101),
        ("epochs", 1.5),
        ("epochs", "4"),
        ("rate", -0.1),
        ("augment", "yes"),
        ("optimizer", "adagrad"),
        ("width", 9),
    ],
)
def test_a_bad_value_is_refused(form, name, value):
    with pytest.raises(Exception, match="is not|does not match|too long|less than|greater than|non-unique"):
        form[name].resolve(value)


def test_the_form_says_where_a_version_is_served_and_the_tasks_get_its_arguments(dag_of):
    spec = "endpoint: {environments: {dev: {}, prod: {local: {port: 8080}}}}\n"
    dag = dag_of(f"{spec}rollout: {{approval: true, steps: [9, 100]}}\n")
    field = dag.params.get_param("environment")
    assert (field.value, field.schema["enum"]) == ("dev", ["dev", "prod"])

    def started(task_id, environment):
        task = copy.copy(dag.get_task(task_id))
        # What other tasks return needs a run.
        for name in ("version", "image", "deployment"):
            setattr(task, name, None)
        task.render_template_fields({"params": {"environment": environment}, "dag": dag})
        return task

    for name, endpoint, port in ("dev", "tiny-dev", None), ("prod", "tiny-prod", 8080):
        task = started("serve.deploy", name)
        assert (task.endpoint, task.platform["port"]) == (endpoint, port)
    expected = {"dev": ([100], None, False), "prod": ([9, 100], "champion", True)}
    for name, values in expected.items():
        task = started("serve.promote", name)
        assert (task.steps, task.alias, task.approval) == values
    with pytest.raises(AirflowFailException, match="'elsewhere' is not an environment of serve.promote. Known: dev, "):
        started("serve.promote", "elsewhere")
    assert "environment" not in dag_of("", name="plain").params


def test_the_spec_reaches_the_dag_and_its_tasks(dag_of):
    dag = dag_of(
        "owner: vision\ntags: [demo]\nretries: 1\nretry_delay: 90s\npool: gpus\nmax_active_runs: 3\n"
        "register: {alias: staging}\nrollout: {alias: live}\n"
    )
    assert dag.max_active_runs == 3
    assert dag.tags == {"modelway", "demo"}
    jobs = {"train.train", "evaluate.checkpoint", "freeze.freeze", "freeze.verify"}
    for task in dag.tasks:
        assert task.pool == ("gpus" if task.task_id in jobs else "default_pool"), task.task_id
        assert (task.owner, task.retries, task.retry_delay.total_seconds()) == ("vision", 1, 90)
        # A rollout that waits, for its turn or for a person, counts as running: it must not block a rollback.
        assert task.max_active_tis_per_dag == (1 if task.task_id == "serve.build_image" else None)
        assert task.doc_md, task.task_id
        assert "\n" not in task.doc_md
    assert dag.get_task("freeze.register").alias == "staging"
    assert dag.get_task("serve.promote").alias == "live"


def test_a_run_that_takes_a_version_reaches_register(dag_of):
    dag = dag_of()
    assert dag.get_task("freeze.register").trigger_rule == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assert dag.get_task("plan").upstream_task_ids == {"package"}
    assert "package" not in dag.get_task("freeze.register").upstream_task_ids


def test_jobs_are_given_sizes_and_times_as_numbers(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.yaml").write_text(
        "model: tiny\ntrain: {resources: {memory: 2Gi}, timeout: 10m}\ndocker: {shared_memory: 64Mi}\n"
    )
    (tmp_path / "tiny" / "tiny.py").write_text(
        "def train(job): ...\ndef evaluate(job, c): ...\ndef export(job, c): ...\n"
    )
    spec = load_spec(tmp_path / "tiny")
    assert options_of(spec, spec.stages()[0]) == {
        "memory_bytes": 2 * 2**30,
        "timeout_seconds": 600,
    }
    assert spec.platform("docker")["shared_memory_bytes"] == 64 * 2**20
    assert spec.to_dict()["train"]["resources"]["memory"] == "2Gi"
