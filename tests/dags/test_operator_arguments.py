"""What an author gives to operators by mistake is refused while the DAG is parsed: one line, with the place."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, literal, task, task_group
from airflow.sdk.exceptions import AirflowFailException
from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.checking import read_platform
from modelway.endpoints.local.section import LocalSection
from modelway.errors import InvalidArgument
from modelway.operators import base
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.find import FindVersionOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.operators.verify import VerifyModelOperator

DIGITS = {"model": "digits", "module": "digits.py"}


@pytest.fixture(autouse=True)
def _models(monkeypatch):
    """The models are those of this repository."""
    monkeypatch.delenv("MODELWAY_MODELS", raising=False)


@pytest.fixture
def dag():
    with DAG(dag_id="mine", schedule=None) as dag:
        yield dag


@pytest.fixture
def package(dag):
    return PackageCodeOperator(task_id="package", **DIGITS)


def train(code, **given):
    return TrainModelOperator(task_id="t", code=code, **given)


MISTAKES = {
    "the operator itself": (lambda c: train(c.operator), "code: is the operator 'package', not what it returns"),
    "a task function": (lambda c: train(task(lambda: {})), "code: is a task that is not made yet. Give what its call"),
    "not expanded": (
        lambda c: SelectCheckpointOperator(
            task_id="s", checkpoints=c, evaluations=EvaluateCheckpointOperator.partial(task_id="e", code=c)
        ),
        "evaluations: is a task that is not made yet",
    ),
    "a text as code": (
        lambda c: train("digits"),
        "code: expected what PackageCodeOperator or PlanRunOperator returned",
    ),
    "operator in a list": (
        lambda c: FreezeModelOperator(task_id="t", code=c, selected=c, training=[c.operator]),
        "training[0]: is the operator 'package'",
    ),
    "backend": (lambda c: train(c, backend="kubernets"), "backend: 'kubernets' is not a backend. Known: "),
    "memory": (lambda c: train(c, options={"memory": "2Gi"}), "options.memory: unknown key. Known: cpu, memory_bytes"),
    "memory as text": (
        lambda c: train(c, options={"memory_bytes": "2Gi"}),
        "options.memory_bytes: expected a number of bytes, got '2Gi'. Write 2147483648.",
    ),
    "wrong unit": (
        lambda c: train(c, options={"disk_bytes": "2GB"}),
        "Write a whole number: 'GB' is not a unit of size",
    ),
    "timeout": (
        lambda c: train(c, options={"timeout_seconds": "2h"}),
        "options.timeout_seconds: expected a number of seconds, got '2h'. Write 7200.",
    ),
    "negative": (lambda c: train(c, options={"cpu": -1}), "options.cpu: must be more than 0, got -1"),
    "near option": (
        lambda c: train(c, options={"gpus": 1}),
        "options.gpus: unknown key. Known: .* Did you mean 'gpu'?",
    ),
    "retry rule": (lambda c: train(c, options={"retry_rules": {"image_pul": "retry"}}), "Did you mean 'image_pull'?"),
    "options as text": (lambda c: train(c, options="2Gi"), "options: expected a mapping, got '2Gi'"),
    "misspelt": (
        lambda c: train(c, params_job={}),
        "params_job: is no argument of the operator. Known: .*'job_params'",
    ),
    "params": (lambda c: train(c, params={"lr": 1}), "params: the params of a task are Airflow's.* not get lr"),
    "job_params as list": (lambda c: train(c, job_params=["lr"]), "job_params: expected a mapping, got ['lr']"),
    "command as text": (
        lambda c: train(c, command="python train.py"),
        "command: expected a list, got 'python train.py'",
    ),
    "seed": (lambda c: train(c, seed=-1), "seed: must be at least 0, got -1"),
    "stage": (lambda c: train(c, stage="Fine tune"), "stage: 'Fine tune' is not a usable name"),
    "start_from": (lambda c: train(c, start_from="last"), "start_from: expected a list of checkpoints, got 'last'"),
    "one stage twice": (
        lambda c: [train(c), TrainModelOperator(task_id="b", code=c.operator.output)],
        "mine.b: stage: the training 't' has the stage 'train' too",
    ),
    "evaluate params": (
        lambda c: EvaluateCheckpointOperator(task_id="e", code=c, checkpoint=c, params={"n": 1}),
        "params: the params of a task are Airflow's",
    ),
    "partial": (
        lambda c: EvaluateCheckpointOperator.partial(task_id="e", code=c, backend="k8s").expand(checkpoint=c),
        "EvaluateCheckpointOperator mine.e: backend: 'k8s' is not a backend",
    ),
    "mapped twice": (
        lambda c: [TrainModelOperator.partial(task_id=n, code=c).expand(job_params=[{}, {}]) for n in ("m", "n")],
        "mine.n: stage: the training 'm' has the stage 'train' too",
    ),
    "mapped over": (
        lambda c: TrainModelOperator.partial(task_id="m", code=c).expand(job_params=[{}, 1]),
        "job_params[1]: expected a mapping, got 1",
    ),
    "mapped over an operator": (
        lambda c: EvaluateCheckpointOperator.partial(task_id="e", code=c).expand(checkpoint=c.operator),
        "checkpoint: is the operator 'package', not what it returns",
    ),
    "mapped over arguments": (
        lambda c: TrainModelOperator.partial(task_id="m", code=c).expand_kwargs([{"seed": 1}, {"seed": -1}]),
        "seed[1]: must be at least 0, got -1",
    ),
    "mapped over what is none": (
        lambda c: TrainModelOperator.partial(task_id="m", code=c).expand(params_job=[{}]),
        "params_job: is no argument.*'job_params'",
    ),
    "no JSON": (
        lambda c: train(c, job_params={"when": Path()}),
        "job_params.when: the job gets parameters as JSON, which this cannot be (Object of type PosixPath",
    ),
    "version zero": (
        lambda c: FindVersionOperator(task_id="f", model="digits", version=0),
        "version: must be at least 1, got 0",
    ),
    "misspelt partial": (lambda c: TrainModelOperator.partial(task_id="e", cod=c), "cod: is no argument.*'code'"),
    "gate": (
        lambda c: VerifyModelOperator(task_id="v", model="digits", archive=c, gates={"accuracy": "=> 0.9"}),
        "gates.accuracy: '=> 0.9' is not a gate. Write one of >=, <=, >, < and a number",
    ),
    "gate's pair": (
        lambda c: VerifyModelOperator(task_id="v", model="digits", archive=c, gates={"accuracy": [0.9, ">="]}),
        "gates.accuracy: [0.9, '>='] is not a gate",
    ),
    "tolerance": (
        lambda c: VerifyModelOperator(task_id="v", model="digits", archive=c, tolerance={"absolut": 1}),
        "tolerance.absolut: unknown key. Known: absolute, relative. Did you mean 'absolute'?",
    ),
    "constraint": (
        lambda c: SelectCheckpointOperator(task_id="s", checkpoints=c, evaluations=c, constraints={"a": [">=", 1]}),
        "constraints.a: ['>=', 1] is not a gate",
    ),
    "mode": (
        lambda c: SelectCheckpointOperator(task_id="s", checkpoints=c, evaluations=c, mode="maximum"),
        "mode: 'maximum' is not a mode. Known: max, min. Did you mean 'max'?",
    ),
    "parallel": (
        lambda c: DivideCheckpointsOperator(task_id="d", code=c, checkpoints=c, parallel=0),
        "parallel: must be at least 1, got 0",
    ),
    "per_job": (
        lambda c: DivideCheckpointsOperator(task_id="d", code=c, checkpoints=c, per_job="all"),
        "per_job: 'all' is not a number of checkpoints",
    ),
    "steps": (
        lambda c: PromoteModelOperator(task_id="p", version=c, deployment=c, steps=[50, 10]),
        "steps: weights must rise to 100, got [50, 10]. End with 100.",
    ),
    "interval": (
        lambda c: PromoteModelOperator(task_id="p", version=c, deployment=c, interval_seconds=-5),
        "interval_seconds: must be at least 0, got -5",
    ),
    "base": (
        lambda c: BuildImageOperator(task_id="b", version=c, base="python:3.11"),
        "base: 'python:3.11' does not pin",
    ),
    "builder": (lambda c: BuildImageOperator(task_id="b", version=c, builder="ocy"), "builder: 'ocy' is not a builder"),
    "tag": (lambda c: BuildImageOperator(task_id="b", version=c, tag="{v}"), "tag: '{v}' would be the tag of every"),
    "target": (
        lambda c: DeployModelOperator(task_id="d", version=c, image=c, target="kserve"),
        "not an endpoint target",
    ),
    "serving": (
        lambda c: DeployModelOperator(task_id="d", version=c, image=c, serving={"sticky": {"cookie": "a b"}}),
        "serving.sticky.cookie: 'a b' is not a name. Use letters",
    ),
    "what the target cannot do": (
        lambda c: DeployModelOperator(task_id="d", version=c, image=c, serving={"mirror": {"percent": 5}}),
        "serving.mirror: the target 'local' does not have copies of requests (mirror)",
    ),
    "platform": (
        lambda c: DeployModelOperator(task_id="d", version=c, image=c, platform={"prot": 80}),
        "platform.prot: unknown key. Known: host, port. Did you mean 'port'?",
    ),
    "platform of a builder": (
        lambda c: BuildImageOperator(task_id="b", version=c, platform={"file": "Dockerfile"}),
        "platform.file: unknown key.*Known: chunk_bytes, insecure, modelpack, order, parallel",
    ),
    "port": (
        lambda c: DeployModelOperator(task_id="d", version=c, image=c, platform={"port": "80"}),
        "platform.port: expected a whole number",
    ),
    "alias": (
        lambda c: RegisterModelOperator(
            task_id="r", code=c, training=[], selected=c, archive=c, verified=c, alias="Champion!"
        ),
        "alias: 'Champion!' cannot be an alias",
    ),
    "version": (
        lambda c: FindVersionOperator(task_id="f", model="digits", version="?"),
        "version: '?' is not a version",
    ),
    "module": (
        lambda c: PackageCodeOperator(task_id="q", model="digits", module="nope.py"),
        "module: there is no file 'nope.py' in include/models/digits. Known: digits.py.",
    ),
    "folder": (
        lambda c: PackageCodeOperator(task_id="q", **DIGITS, folder="/nope"),
        "folder: there is no folder '/nope'",
    ),
    "model": (
        lambda c: PackageCodeOperator(task_id="q", model="digit", module="digits.py"),
        "model: there is no model 'digit'. Known: .*Did you mean 'digits'?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(name, package):
    make, reported = MISTAKES[name]
    with pytest.raises(InvalidArgument) as refused:
        make(package.output)
    text = str(refused.value)
    assert re.match(rf"{re.escape(str(Path(__file__).relative_to(Path.cwd())))}:\d+  \w+Operator mine\.\w+: ", text)
    assert re.search(".*".join(map(re.escape, reported.split(".*"))), text), text
    assert "\n" not in text


def test_all_wrong_arguments_of_an_operator_are_named(package):
    with pytest.raises(InvalidArgument) as refused:
        train(package.output, backend="k8s", seed=-1)
    assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == ["backend", "seed"]


def test_what_is_known_only_when_the_task_runs_passes(dag, package):
    code = package.output
    dag.params = {"backend": "local", "steps": "[100]"}
    train(code, backend="{{ params.backend }}", seed="{{ params.seed }}", options={"cpu": "{{ params.cpu }}"})
    train_literal = literal({"prompt": "Hello {{ name }}"})
    TrainModelOperator(task_id="literal", stage="literal", code=code, job_params=train_literal)
    TrainModelOperator(task_id="own", stage="own", code=code, params={"lr": 1}, job_params={"lr": "{{ params.lr }}"})
    PromoteModelOperator(task_id="p", version=code, deployment=code, steps="{{ params.steps }}")
    PackageCodeOperator(task_id="q", model="{{ params.model }}", module="model.py", folder="{{ params.folder }}")
    SelectCheckpointOperator(task_id="s", checkpoints=code, evaluations=code, constraints={"a": "{{ params.a }}"})

    @task
    def options():
        return {"cpu": 1}

    EvaluateCheckpointOperator(task_id="e", code=code, checkpoint=code, options=options())
    TrainModelOperator.partial(task_id="m", code=code).expand(job_params=[{"lr": 1}, {"lr": 2}])

    @task_group
    def each(rate):
        TrainModelOperator(task_id="g", stage="g", code=code, job_params={"lr": rate})

    each.expand(rate=[1, 2])
    VerifyModelOperator(task_id="v", model="digits", archive=code, gates={"a": ">= 0.9", "b": (">", 1)})


def test_two_models_may_have_stages_of_one_name(dag, package):
    other = PackageCodeOperator(task_id="other", **DIGITS).output
    train(package.output)
    TrainModelOperator(task_id="b", code=other)


def execute(operator, monkeypatch):
    monkeypatch.setattr(base, "record_failure", lambda *given: None)
    pushed = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    with pytest.raises(AirflowFailException):
        operator.execute({"ti": ti})
    return pushed["failure"]


def test_the_same_is_refused_in_the_same_words_when_the_task_runs(dag, package, monkeypatch):
    operator = train(package.output, backend="{{ params.backend }}")
    operator.code, operator.backend = {**DIGITS, "uri": "u", "digest": "d"}, "kubernets"
    reported = execute(operator, monkeypatch)
    assert reported.startswith("TrainModelOperator mine.t: backend: 'kubernets' is not a backend. Known: ")
    assert reported.endswith("Did you mean 'kubernetes'?")


def test_what_another_operator_returned_is_reported_from_what_is_meant(dag, package, monkeypatch):
    operator = BuildImageOperator(task_id="b", version=package.output)
    operator.version = {**DIGITS, "uri": "u", "digest": "d"}
    reported = (
        "version: expected what RegisterModelOperator or FindVersionOperator returned, got a mapping without version"
    )
    assert reported in execute(operator, monkeypatch)


def test_a_number_that_a_template_gave_as_text_becomes_one(dag, package, monkeypatch):
    version = {"model": "digits", "version": 1, "archive": {}}
    operator = DeployModelOperator(
        task_id="d", version=version, image={"digest": "d", "reference": "r"}, platform={"port": "{{ p }}"}
    )
    operator.platform = {"port": "8080"}

    def run(self, context):
        return read_platform(EndpointSpec(name="a", model="a", predictors=(), platform=self.platform), LocalSection)

    monkeypatch.setattr(type(operator), "run", run)
    monkeypatch.setattr(base, "record_success", lambda *given: None)
    assert operator.execute({}).port == 8080


def test_mapped_tasks_check_what_they_are_mapped_over_when_they_run(dag, package, monkeypatch):
    mapped = TrainModelOperator.partial(task_id="m", code={**DIGITS, "uri": "u", "digest": "d"}).expand(
        backend=package.output
    )
    operator = mapped.unmap({"backend": "k8s"})
    assert "TrainModelOperator mine.m: backend: 'k8s' is not a backend" in execute(operator, monkeypatch)
