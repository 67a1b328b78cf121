"""dags/examples on a real Airflow: each runs to its end, side by side."""

import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
DIGITS = Path(__file__).resolve().parents[2] / "include" / "models" / "digits" / "digits.py"
RUN_SECONDS = 600


class Examples:
    """The runs of the examples, each triggered once for each configuration."""

    def __init__(self, lab):
        self.lab, self.api = lab, lab.api
        self.runs = {}

    def start(self, name, **conf):
        dag_id = f"example-{name}"
        self.api.wait_for_dag(dag_id)
        self.api.unpause(dag_id)
        self.runs[name] = self.api.trigger(dag_id, conf=conf)

    def states(self, name):
        tasks = self.api.tasks(f"example-{name}", self.runs[name])
        return {f"{t.task_id}[{t.map_index}]" if t.map_index >= 0 else t.task_id: t.state for t in tasks}

    def wait(self, name, task, state):
        deadline = time.monotonic() + RUN_SECONDS
        while (found := self.states(name).get(task)) != state:
            assert time.monotonic() < deadline, (task, found)
            assert found != "failed", self.failure(name)
            self.lab.airflow.check()
            time.sleep(1)

    def finish(self, name):
        """Wait for the run and return its state."""
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.api.run_state(f"example-{name}", self.runs[name])) not in ("success", "failed"):
            assert time.monotonic() < deadline, self.states(name)
            self.lab.airflow.check()
            time.sleep(1)
        return state

    def failure(self, name):
        """Return all that explains a failed run: the logs of its failed tasks, tracebacks included."""
        failed = [task.partition("[")[0] for task, state in self.states(name).items() if state == "failed"]
        logs = [self.call("GET", name, f"/taskInstances/{task}/logs/1")["content"] for task in failed]
        return "\n".join(str(line) for log in logs for line in log)

    def succeeded(self, name):
        if self.finish(name) != "success":
            pytest.fail(self.failure(name))

    def xcom(self, name, task, key="return_value", **which):
        return self.api.xcom(f"example-{name}", self.runs[name], task, key=key, **which)

    def call(self, method, name, rest, **request):
        return self.api.call(method, f"/dags/example-{name}/dagRuns/{quote(self.runs[name], safe='')}{rest}", **request)


def write_checkpoints(folder):
    """Write two checkpoints of the digits, the second one of a network that always says 3, and a damaged one."""
    import torch

    spec = spec_from_file_location("digits_of_the_examples", DIGITS)
    digits = module_from_spec(spec)
    spec.loader.exec_module(digits)
    folder.mkdir()
    torch.manual_seed(0)
    net = digits.Net()
    torch.save({"net": net.state_dict()}, folder / "random.pt")
    for parameter in net.classify[2].parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(net.classify[2].bias[3], 9)
    torch.save({"net": net.state_dict()}, folder / "three.pt")
    (folder / "damaged.pt").write_text("no checkpoint")


@pytest.fixture(scope="module")
def examples(lab, tmp_path_factory):
    """All that need no earlier one have been started together."""
    folder = tmp_path_factory.mktemp("examples")
    write_checkpoints(folder / "checkpoints")
    examples = Examples(lab)
    examples.arrived = folder / "_SUCCESS"
    examples.start("two-models")
    examples.start("evaluate-only", folder=str(folder / "checkpoints"))
    examples.start("sensor", file=str(examples.arrived))
    examples.start("task-functions")
    examples.start("custom-operator")
    examples.start("mapped-training")
    return examples


def test_evaluate_only_compares_the_checkpoints_of_a_folder(examples):
    examples.succeeded("evaluate-only")
    states = examples.states("evaluate-only")
    assert sorted(state for task, state in states.items() if task.startswith("evaluate[")) == [
        "failed",
        "success",
        "success",
    ]
    selected = examples.xcom("evaluate-only", "select")
    left_out = {each["checkpoint"]: each.get("left_out") for each in selected["evaluations"]}
    assert left_out.pop("damaged").startswith("its evaluation failed: ")
    assert left_out == {"random": None, "three": None}
    accuracies = {each["checkpoint"]: each["metrics"].get("accuracy") for each in selected["evaluations"]}
    del accuracies["damaged"]
    assert selected["checkpoint"]["id"] == max(accuracies, key=accuracies.get)
    # 397 images, about one in ten of them a 3.
    assert 0.05 < accuracies["three"] < 0.15


def test_evaluate_only_says_when_there_is_nothing_to_compare(examples, tmp_path):
    examples.start("evaluate-only", folder=str(tmp_path))
    assert examples.finish("evaluate-only") == "failed"
    assert f"{tmp_path}: there are no *.pt files" in examples.failure("evaluate-only")


def test_the_sensor_holds_training_until_the_data_are_there(examples):
    examples.wait("sensor", "wait_for_data", "up_for_reschedule")
    assert examples.states("sensor")["package"] is None
    examples.arrived.touch()
    examples.succeeded("sensor")
    assert examples.xcom("sensor", "train", "report")["params"]["file"] == str(examples.arrived)


def test_the_custom_operator_lets_only_the_last_checkpoint_through(examples):
    examples.succeeded("custom-operator")
    assert [each["id"] for each in examples.xcom("custom-operator", "warmup")] == ["warmup-000001", "warmup-000002"]
    given = [each["id"] for each in examples.xcom("custom-operator", "finetune")]
    assert given == ["warmup-000002", "finetune-000001"]
    selected = examples.xcom("custom-operator", "select")
    assert [each["checkpoint"] for each in selected["evaluations"]] == given


def test_mapped_trainings_are_stages_of_their_own(examples):
    """The jobs of both run side by side, each with its own parameters, name and checkpoints."""
    examples.succeeded("mapped-training")
    selected = examples.xcom("mapped-training", "select")
    assert [each["checkpoint"] for each in selected["evaluations"]] == ["train-0-000001", "train-1-000001"]
    assert len({each["digest"] for each in selected["evaluations"]}) == 2
    # The rate of the first teaches something in one epoch.
    assert selected["checkpoint"]["id"] == "train-0-000001"
    reports = [examples.xcom("mapped-training", "train", "report", map_index=index) for index in (0, 1)]
    assert [each["stage"] for each in reports] == ["train-0", "train-1"]
    assert [each["params"]["lr"] for each in reports] == [0.003, 0.0001]


def test_task_functions_choose_before_and_report_after(examples):
    examples.succeeded("task-functions")
    reported = examples.xcom("task-functions", "report")
    best = examples.xcom("task-functions", "select")["checkpoint"]["id"]
    assert reported.startswith(f"{best}: accuracy 0.")
    assert "'batch_size': 64" in reported


def test_two_models_are_registered_by_one_run(examples, lab):
    examples.succeeded("two-models")
    for model in ("digits-quick", "digits-careful"):
        assert lab.lineage.aliases(model) == {"candidate": 1}
        assert lab.lineage.version(model, 1).run.dag_id == "example-two-models"
    assert "version 1, loss 0." in examples.xcom("two-models", "compare")


def test_deploy_only_serves_a_version_without_training(examples, lab):
    examples.succeeded("two-models")
    examples.start("deploy-only", model="digits-quick", version="candidate")
    examples.start("approval", model="digits-careful")
    examples.succeeded("deploy-only")
    assert set(examples.states("deploy-only")) == {"find", "build_image", "deploy"}
    assert lab.lineage.weights("digits-quick") == {1: 100}
    (predictor,) = lab.endpoint.status("digits-quick").predictors
    assert (predictor.version, predictor.ready) == (1, True)


def answer(examples, option):
    """Answer the question of the approval's run.

    A program is faster than Airflow 3.3.2 expects of a human (docs/adr/0005): the scheduler must first have read that
    the process which asked has ended, or it takes the task for lost.
    """
    examples.wait("approval", "approve", "awaiting_input")
    read = "state success for task instance TaskInstanceKey(dag_id='example-approval', task_id='approve', "
    read += f"run_id='{examples.runs['approval']}'"
    deadline = time.monotonic() + 120
    while read not in (examples.lab.airflow.folder / "logs" / "scheduler.txt").read_text():
        assert time.monotonic() < deadline, "the scheduler has not read the end of the process that asked"
        time.sleep(0.5)
    assert examples.states("approval")["promote"] is None
    detail = examples.call("GET", "approval", "/taskInstances/approve/-1/hitlDetails")
    assert detail["subject"] == "Promote digits-careful version 1?"
    assert "Its predictor is up: http://" in detail["body"]
    body = {"chosen_options": [option], "params_input": {}}
    examples.call("PATCH", "approval", "/taskInstances/approve/-1/hitlDetails", json=body)


def test_nothing_is_promoted_before_somebody_approves(examples, lab):
    if "approval" not in examples.runs:
        examples.succeeded("two-models")
        examples.start("approval", model="digits-careful")
    answer(examples, "Approve")
    examples.succeeded("approval")
    assert lab.lineage.aliases("digits-careful") == {"candidate": 1, "champion": 1}


def test_what_is_rejected_is_not_promoted(examples):
    assert "approval" in examples.runs
    examples.start("approval", model="digits-careful")
    answer(examples, "Reject")
    examples.succeeded("approval")
    assert examples.states("approval")["promote"] == "skipped"
