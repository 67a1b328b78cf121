"""What people learn of a run that failed, succeeded or is late."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from modelway.cli import main
from modelway.dag.notify import (
    call_notifiers,
    deadline_missed,
    notifier_findings,
    one_line,
    report_task_failure,
    run_line,
)

from tests.unit.spec_samples import write_model

HERE = "tests.dags.sample_notifiers"


@pytest.fixture(autouse=True)
def usable(monkeypatch):
    """Let specs name the notifiers of these tests."""
    monkeypatch.setenv("MODELWAY_NOTIFIERS", f"{HERE}.*, no.such.module.*")


class Task(SimpleNamespace):
    """A task instance as the callbacks meet it, in the worker or in the DAG processor."""

    def __init__(self, left=None, **given):
        defaults = {"dag_id": "digits", "task_id": "train.warmup", "try_number": 3, "map_index": -1}
        super().__init__(**{**defaults, **given})
        self.pushed = {} if left is None else {"failure": left}

    def xcom_pull(self, *, task_ids, key, map_indexes):
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.pushed.get(key)

    def xcom_push(self, *, key, value):
        self.pushed[key] = value


def ended(ti=None, reason="task_failure"):
    context = {"dag": DAG(dag_id="digits", schedule=None), "run_id": "manual__1", "reason": reason}
    return {**context, "ti": ti} if ti else context


JOB_FAILED = (
    "stage 'warmup' failed: the job ended with exit status 1. Read the last lines of the job's log. The log ends like "
    'this, all of it is in /home/jobs/x:\n  | Traceback (most recent call last):\n  |   File "x.py"\n'
    "  | ValueError: no luck."
)


def test_a_failed_job_is_one_line_with_its_last_words():
    assert run_line(ended(Task(JOB_FAILED))) == (
        "digits failed in train.warmup (try 3): stage 'warmup' failed: the job ended with exit status 1. Read the "
        "last lines of the job's log. The log ends like this, all of it is in /home/jobs/x: ValueError: no luck"
    )


def test_a_mapped_task_is_named_with_its_index():
    task = Task("no metric 'loss'", task_id="evaluate.checkpoint", map_index=2, try_number=1)
    assert run_line(ended(task)) == "digits failed in evaluate.checkpoint[2] (try 1): no metric 'loss'"


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("all_tasks_deadlocked", "no task can start and none is running; check the tasks that are waiting"),
        ("timed_out", "the run took longer than it may"),
        ("something new", "something new"),
    ],
)
def test_a_run_that_failed_without_a_task(reason, line):
    assert run_line(ended(reason=reason)) == f"digits failed: {line} (run manual__1)"


def test_a_task_that_left_nothing():
    assert run_line(ended(Task())).endswith("train.warmup (try 3): it recorded no cause; see its log")


def test_what_cannot_be_read_stops_nothing(caplog):
    task = Task()
    task.xcom_pull = lambda **_: 1 / 0
    assert "it recorded no cause" in run_line(ended(task))
    assert "cannot be read: division by zero" in caplog.text


def test_a_run_that_succeeded():
    assert run_line(ended(Task(), reason="success")) == "digits succeeded: run manual__1"


def test_one_line_is_short_and_has_no_control_characters():
    assert one_line("a\x1b[31m\tb\r\nsecond") == "a [31m b"
    assert len(one_line("x" * 10_000)) == 500
    assert one_line("") == ""


def test_the_failed_tasks_log_ends_with_the_line_and_keeps_the_cause(caplog):
    task = Task()
    report_task_failure({"ti": task, "exception": ValueError("boom")})
    assert caplog.messages == ["digits failed in train.warmup (try 3): ValueError: boom"]
    assert task.pushed == {"failure": "ValueError: boom"}


def test_an_error_of_ours_is_reported_as_it_was_left(caplog):
    report_task_failure({"ti": Task("the digest differs. Fetch it again."), "exception": ValueError("boom")})
    assert caplog.messages == ["digits failed in train.warmup (try 3): the digest differs. Fetch it again."]


def test_a_bad_notifier_is_logged_and_the_next_one_called(caplog, tmp_path):
    file = tmp_path / "told"
    notifiers = [
        ("no.such.module.Notifier", {}),
        (f"{HERE}.NoSuchNotifier", {}),
        ("nodots", {}),
        (f"{HERE}.FileNotifier", {"nonsense": 1}),
        (f"{HERE}.RaisingNotifier", {}),
        (f"{HERE}.announce", {"path": str(tmp_path / "called")}),
        ("subprocess.check_call", {"args": ["touch", str(tmp_path / "called")]}),
        (f"{HERE}.FileNotifier", {"path": str(file), "text": "{{ run_id }}: {{ modelway_message }}"}),
    ]
    with caplog.at_level(logging.ERROR, logger="modelway"):
        call_notifiers(notifiers, ended(), "digits failed")
    assert file.read_text() == "manual__1: digits failed\n"
    assert not (tmp_path / "called").exists(), "what is no notifier is not called"
    reported = [record.getMessage() for record in caplog.records if record.name.startswith("modelway")]
    assert [line.split(" failed: ")[0] for line in reported] == [f"the notifier {path}" for path, _ in notifiers[:7]]
    assert "RuntimeError: the mail server is unavailable" in reported[4]
    assert "'tests.dags.sample_notifiers.announce' is no notifier" in reported[5]
    assert "none of the notifiers that specs may name" in reported[6]


def test_a_notifier_off_the_list_is_not_imported(caplog, tmp_path, monkeypatch):
    (tmp_path / "marked.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    call_notifiers([("marked.Notifier", {})], ended(), "digits failed")
    assert list(notifier_findings(naming("marked.Notifier"))) == []
    assert not (tmp_path / "imported").exists()


def naming(path):
    return {"notifications": {"on_failure": [{"notifier": path}]}}


SMTP = "airflow.providers.smtp.notifications.smtp"


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        (f"{HERE}.FileNotifier", None),
        (f"{HERE}.announce", f"'{HERE}.announce' is no notifier"),
        (f"{HERE}.Path", f"'{HERE}.Path' is no notifier"),
        (f"{HERE}.Absent", f"'{HERE}.Absent' is not there"),
        ("tests.dags.no_such_file.Notifier", "'tests.dags.no_such_file.Notifier' is not there: there is no module"),
        (f"{SMTP}.SmtpNotifier", None),
        (f"{SMTP}.SmtpNotifer", f"'{SMTP}.SmtpNotifer' is not there"),
        ("airflow.providers.standard.operators.bash.BashOperator", "is no notifier"),
        # The provider may be installed where the runs are.
        ("airflow.providers.absent.notifications.Absent", None),
        ("no.such.module.Notifier", None),
    ],
)
def test_lint_tells_of_what_is_no_notifier(monkeypatch, path, reported):
    monkeypatch.setenv("MODELWAY_NOTIFIERS", "airflow.providers.*,tests.dags.*,no.such.*")
    found = list(notifier_findings(naming(path)))
    assert [reported in one.refusal.what for one in found] == ([True] if reported else [])
    assert all(one.path == ("notifications", "on_failure", 0, "notifier") for one in found)


def test_values_that_are_no_notifications_are_left_to_other_checks():
    for wrong in (None, [], "x", {"on_failure": "x"}, {"on_failure": [None, {"notifier": 1}]}):
        assert list(notifier_findings({"notifications": wrong})) == []


def test_lint_refuses_one_in_one_line(tmp_path, capsys):
    write_model(tmp_path, "tiny", spec=f"model: tiny\nnotifications: {{on_success: [{{notifier: {HERE}.announce}}]}}\n")
    assert main(["lint", str(tmp_path)]) == 1
    (_, line) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        f"tiny/model.yaml:2:41  notifications.on_success[0].notifier: '{HERE}.announce' is no notifier. "
        "Name a class of tests.dags.sample_notifiers that inherits from Airflow's BaseNotifier."
    )


def test_a_late_run_is_reported(tmp_path):
    file = tmp_path / "told"
    deadline_missed(
        model="digits",
        deadline="2h",
        notifiers=[{"notifier": f"{HERE}.FileNotifier", "args": {"path": str(file)}}],
        context={"dag_run": {"dag_run_id": "manual__1", "state": "running"}, "deadline": {}},
    )
    assert file.read_text() == "digits is not done within 2h: run manual__1 is running\n"


NOTIFIED = """\
deadline: 1h
notifications:
  on_failure: [{{notifier: no.such.module.Notifier}}, {{notifier: {0}.FileNotifier, args: {{path: "{1}"}}}}]
  on_success: [{{notifier: {0}.FileNotifier, args: {{path: "{1}"}}}}]
  on_deadline: [{{notifier: {0}.FileNotifier, args: {{path: "{1}"}}}}]
"""


def test_the_spec_reaches_the_callbacks(dag_of, tmp_path):
    file = tmp_path / "told"
    dag = dag_of(NOTIFIED.format(HERE, file))
    dag.on_failure_callback(ended(Task("boom")))
    dag.on_success_callback(ended(reason="success"))
    (alert,) = dag.deadline
    assert alert.interval.total_seconds() == 3600
    assert alert.callback.path == "modelway.dag.notify.deadline_missed"
    deadline_missed(**alert.callback.kwargs, context={"dag_run": {"dag_run_id": "r", "state": "queued"}})
    assert Path(file).read_text().splitlines() == [
        "digits failed in train.warmup (try 3): boom",
        "digits succeeded: run manual__1",
        "tiny is not done within 1h: run r is queued",
    ]
    assert DagSerialization.to_dict(dag)["dag"]["has_on_failure_callback"] is True


def test_a_spec_without_notifiers_has_no_callbacks_of_the_dag(dag_of):
    dag = dag_of("")
    # Airflow 3.3.2 parses a versioned bundle's file again and again once it has called one of its callbacks.
    assert (dag.on_failure_callback, dag.on_success_callback, dag.deadline) == (None, None, None)
    assert all(task.on_failure_callback for task in dag.tasks)
