"""The monitor on a real endpoint: requests with real servers, labels that come late, and the event that retrains."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import numpy
import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.triggers.base import TaskSuccessEvent
from modelway.artifacts.store import ArtifactStore
from modelway.cli import main
from modelway.endpoints.local.endpoint import LocalEndpoint
from modelway.errors import EndpointNotReady, ModelwayError
from modelway.lineage.records.monitoring import FAILED, MonitorSlice, Unanswered
from modelway.monitor.reference import Tally
from modelway.monitor.rules import DriftRule, QualityRule, Rules
from modelway.operators.monitor import RETRAIN, MonitorModelsOperator
from modelway.runs.monitor_labels import LabelSource
from modelway.runs.monitor_memory import Memory, count_new
from modelway.runs.monitoring import Watched, _window, check_model
from modelway.server.core.signature import TensorSpec
from modelway.sketches import Counts
from modelway.triggers import monitor as monitor_trigger

from tests.endpoint_clients import eventually, pid_at
from tests.rollout_shop import Shop
from tests.tiny_model import WIDTH

RULES = Rules(
    drift=DriftRule(minimum_rows=60, window_seconds=3600), quality=QualityRule(minimum_labels=40), cool_down_seconds=1
)
WATCHED = Watched(model="tiny", endpoint="tiny", target="local", rules=RULES)


def reference(*, shift=0.0):
    """Return what freezing counts of 500 rows; the labels are right in 95 % of them."""
    x = numpy.random.default_rng(0).normal(shift, 1, (500, WIDTH)).astype("float32")
    tensors = [TensorSpec(name, "FP32", (-1, WIDTH)) for name in ("x", "y")]
    counts = Counts(inputs=tensors[:1], outputs=tensors[1:])
    counts.add({"x": [x]}, {"y": [x]})
    return {"rows": 500, **counts.documents(), "quality": {"labelled": 500, "right": 475}}


#: of a model that answers with a number
NUMBERS = reference() | {"quality": {"labelled": 500, "error": 0.5, "deviation": 0.1}}


class Watch:
    """An endpoint with a version, requests to it, and checks at times of the test's own."""

    def __init__(self, shop):
        self.shop = shop
        self.now = datetime.now(UTC)
        self.random = numpy.random.default_rng(1)
        self.sent = 0

    def send(self, *, shift=0.0, calls=6, rows=15, nan=False, answer=lambda x: x.argmax(axis=1)):
        """Send requests with ids, and return the class of each row by its id, or the ``answer`` to it."""
        url = self.shop.endpoint.status("tiny").url
        classes = {}
        for _ in range(calls):
            x = self.random.normal(0, 1, (rows, WIDTH)).astype("float32")
            x[:, 0] += shift
            data = [None] * x.size if nan else [float(value) for value in x.ravel()]
            self.sent += 1
            body = {"id": f"r{self.sent}", "inputs": [{"name": "x", "datatype": "FP32", "shape": list(x.shape)}]}
            body["inputs"][0]["data"] = data
            # A gateway sees later than the status that a server is back, and answers 503 until then.
            eventually(lambda body=body: httpx.post(f"{url}/v2/models/tiny/infer", json=body).status_code == 200)
            classes |= {f"r{self.sent}/{row}": each.item() for row, each in enumerate(answer(x))}
        return classes

    def check(self, *, watched=WATCHED, minutes=15):
        self.now += timedelta(minutes=minutes)
        return check_model(
            watched,
            store=self.shop.lineage,
            port=self.shop.endpoint,
            artifacts=ArtifactStore((self.shop.home / "artifacts").as_uri()),
            now=self.now,
        )

    @property
    def state(self):
        return self.shop.lineage.monitoring.state("tiny").state

    @property
    def requests(self):
        return self.shop.lineage.monitoring.requests("tiny")

    def counted(self):
        """Return the rows that all checks counted of the version that serves."""
        version = self.state["version"]
        slices = self.shop.lineage.monitoring.slices("tiny", version, since=datetime(2000, 1, 1, tzinfo=UTC))
        return [each.rows for each in slices]


@pytest.fixture
def watch(tmp_path, monkeypatch, request):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    monkeypatch.setattr(monitor_trigger, "SETTLE_SECONDS", 0)
    shop = Shop(tmp_path)
    shop.make(1, **{"sketches": reference(), **getattr(request, "param", {})})
    shop.roll_out(1)
    watch = Watch(shop)
    assert watch.check().text.startswith("version 1: 0 new rows")
    yield watch
    shop.endpoint.delete("tiny")


def test_drift_is_requested_once_and_a_checked_version_that_continues_is_not(watch):
    watch.send()
    assert watch.check().text == "version 1: 90 new rows; quality undecided: 0 labels, 40 are needed"
    for _ in range(2):
        watch.send(shift=1.5, calls=12, rows=16)
        found = watch.check(minutes=60)
    assert found.request.rule == "drift"
    assert found.request.reason.startswith("drift of ")
    assert "input x[0]: PSI " in found.request.reason
    (request,) = watch.requests
    assert (request.id, request.rebuild, request.outcome) == (found.request.id, False, None)
    assert request.numbers["drifted"] >= 2
    # Nothing else comes of it, in flight or answered.
    watch.send(shift=3.0)
    assert watch.check().request is None
    watch.shop.lineage.monitoring.record_outcome(request.id, outcome="version 2")
    watch.send(shift=3.0)
    assert watch.check(minutes=2 * 24 * 60).request is None
    assert len(watch.requests) == 1


def test_each_row_counts_once_through_restarts_absence_and_clocks(watch):
    watch.send(calls=2)
    watch.check()
    watch.check()
    assert watch.counted() == [0, 30, 0]
    # The server ends, and another one counts from zero.
    url = watch.shop.endpoint.status("tiny").predictors[0].url
    os.kill(pid_at(url), signal.SIGKILL)
    eventually(
        lambda: [(each.restarts, each.ready) for each in watch.shop.endpoint.status("tiny").predictors] == [(1, True)]
    )
    watch.send(calls=1)
    watch.check()
    assert watch.counted() == [0, 30, 0, 15]
    # The monitor is unavailable for a day: what came is one slice, and in the window whole.
    watch.send(calls=6)
    watch.check(minutes=24 * 60)
    assert watch.counted() == [0, 30, 0, 15, 90]
    # Another worker's clock is behind: time does not go back.
    watch.send(calls=1)
    watch.check(minutes=-600)
    slices = watch.shop.lineage.monitoring.slices("tiny", 1, since=datetime(2000, 1, 1, tzinfo=UTC))
    assert [each.rows for each in slices] == [0, 30, 0, 15, 90, 15]
    assert all(each.begin <= each.end for each in slices)
    assert watch.requests == []


def test_all_servers_of_a_version_are_remembered():
    memory = Memory(version=1, since=0.0, at=0.0, reference=None)
    servers = [{"since": number, "rows_seen": 10} for number in range(100)]
    assert count_new(memory, servers, is_first=False)[1] == 1000
    assert count_new(memory, servers, is_first=False)[1] == 0
    # Most of them do not answer for a while.
    count_new(memory, servers[:40], is_first=False)
    assert count_new(memory, servers, is_first=False)[1] == 0


def test_what_is_older_than_the_window_is_read_only_where_rows_are_too_few():
    now, asked = datetime.now(UTC), []
    tallies = {"x": Tally(bins=(50,)).to_list()}
    part = MonitorSlice(endpoint="tiny", version=1, begin=now, end=now, rows=50, tallies=tallies, numbers={})
    older = replace(part, end=now - timedelta(days=3))

    def slices(endpoint, version, *, since):
        asked.append(since)
        return [each for each in (older,) if each.end > since]

    store, since = SimpleNamespace(monitoring=SimpleNamespace(slices=slices)), now - timedelta(days=30)
    for rows, expected in ((50, 50), (60, 100)):
        window = _window(store, part, DriftRule(minimum_rows=rows), since=since, now=now)
        assert window["x"].rows == expected
    assert asked == [now - timedelta(days=1), now - timedelta(days=1), since]


def test_of_two_checks_at_once_one_counts(watch):
    watch.send(calls=2)
    store, state = watch.shop.lineage.monitoring, watch.shop.lineage.monitoring.state
    first = []

    def late(endpoint):
        found = state(endpoint)
        if not first:
            first.append(True)
            watch.check()
        return found

    store.state = late
    with pytest.raises(ModelwayError, match="another check was faster"):
        watch.check()
    assert watch.counted() == [0, 30]


def test_a_version_that_is_rolled_back_has_a_window_of_its_own(watch):
    watch.send(shift=3.0)
    (watch.shop.home / "truth.csv").write_text("id,label\nr1/0,1\n")
    source = LabelSource(dataset="truth", uri=str(watch.shop.home / "truth.csv"), key="id", column="label")
    labelled = replace(WATCHED, labels=source)
    assert "labels of data set truth: 1 new" in watch.check(watched=labelled).text
    watch.shop.make(2, sketches=reference())
    watch.shop.roll_out(2)
    # Labels are the model's: what was read is read no more.
    assert "labels of" not in watch.check(watched=labelled).text
    watch.send()
    assert watch.check().text.startswith("version 2: 90 new rows")
    watch.shop.take_back(1, run=3, requested=True)
    watch.check()
    watch.send()
    # What the version answered before it was replaced says nothing of now.
    found = watch.check()
    assert found.text.startswith("version 1: ")
    assert "drift" not in found.text.replace("drift undecided", "")
    assert watch.requests == []


def test_nan_in_every_row_is_a_schema_change_that_rebuilds(watch):
    for _ in range(2):
        watch.send(nan=True, calls=8)
        found = watch.check()
    assert found.request.rule == "schema"
    assert found.request.rebuild
    assert "is missing in 100% of the rows (0% before)" in found.request.reason


def test_labels_that_come_late(watch, capsys, tmp_path):
    classes = watch.send(calls=6)
    watch.check()
    wrong = {name: (value + 1) % WIDTH for name, value in classes.items()}
    lines = "".join(f"{name},{value}\n" for name, value in wrong.items())
    (tmp_path / "labels.csv").write_text(f"id,label\n{lines}")
    assert main(["labels", "add", "tiny", "nobody=1", "--file", str(tmp_path / "labels.csv")]) == 0
    printed = capsys.readouterr().out
    assert "91 new, 0 changed, 0 as before" in printed
    assert "1 of requests that are not known" in printed
    watch.check()
    found = watch.check()
    assert found.request.rule == "quality"
    assert found.request.reason.startswith("0.0% of 90 labelled predictions are right, 95.0% at freezing")
    # Somebody corrects them.
    right = [f"{name}={value}" for name, value in classes.items()]
    assert main(["labels", "add", "tiny", *right, "nobody=1"]) == 0
    assert "0 new, 90 changed, 1 as before" in capsys.readouterr().out
    assert "quality" not in watch.check().text
    for bad, message in (("r1", "'r1' is no label"), ("r1=x", "'x' is no number"), ("r1=nan", "'nan' is no number")):
        assert main(["labels", "add", "tiny", bad]) == 1
        assert message in capsys.readouterr().err


def test_labels_of_a_data_set_are_read_once_and_one_that_is_unavailable_loses_nothing(watch, tmp_path):
    source = LabelSource(dataset="truth", uri=str(tmp_path / "truth"), key="id", column="class")
    watched = replace(WATCHED, labels=source)
    assert Watched.from_dict(json.loads(json.dumps(watched.to_dict()))) == watched
    classes = watch.send(calls=6)
    found = watch.check(watched=watched).text
    assert found.startswith(f"version 1: 90 new rows; labels of data set truth unavailable: {tmp_path}/truth: ")
    wrong = {name: (value + 1) % WIDTH for name, value in classes.items()}
    (tmp_path / "truth").mkdir()
    lines = "".join(f"{value},{name}\n" for name, value in wrong.items())
    (tmp_path / "truth" / "monday.csv").write_text(
        f"class,id\n{lines},r1/0\n1,r1/0\0\n1,{251 * 'x'}\nnan,r1/1\n1,nobody\n1,nobody\n"
    )
    found = watch.check(watched=watched)
    assert found.text == (
        "version 1: 0 new rows; labels of data set truth: 91 new, 0 changed, 0 as before, 1 of requests that are not "
        "known, or not yet, 4 rows without an id or a number; quality: 0.0% of 90 labelled predictions are right, "
        "95.0% at freezing"
    )
    # What was read counts no more; a correction is a new line.
    assert "labels of" not in watch.check(watched=watched).text
    right = [json.dumps({"id": name, "class": value}) + "\n" for name, value in classes.items()]
    (tmp_path / "truth" / "tuesday.jsonl").write_text("".join(right))
    assert "labels of data set truth: 0 new, 90 changed, 0 as before" in watch.check(watched=watched).text
    assert watch.shop.lineage.monitoring.labelled("tiny", 1, since=watch.now - timedelta(days=1)) == (90, 90)


@pytest.mark.parametrize("watch", [{"sums": True, "sketches": NUMBERS}], indirect=True)
def test_numbers_with_a_larger_error_than_at_freezing_are_requested(watch):
    watched = replace(WATCHED, rules=Rules(quality=QualityRule(minimum_labels=40, rise=0.2)))
    watch.check(watched=watched)
    sums = watch.send(calls=3, answer=lambda x: x.sum(axis=1))
    watch.check(watched=watched)

    def label(error):
        labels = {name: value + error * (-1) ** number for number, (name, value) in enumerate(sums.items())}
        watch.shop.lineage.monitoring.add_labels("tiny", labels)
        return [watch.check(watched=watched) for _ in range(2)]

    # As at freezing, and worse by less than the rule allows.
    for error in (0.5, 0.55):
        assert [(round(each.error, 3), each.request) for each in label(error)] == [(error, None)] * 2
    first, second = label(0.8)
    assert (first.request, second.request.rule) == (None, "quality")
    assert second.request.reason.startswith("the mean error of 45 labelled predictions is 0.8, 0.5 at freezing")


def test_without_rows_of_its_evaluation_drift_is_undecided_and_age_is_known(watch):
    watch.shop.make(2)
    watch.shop.roll_out(2)
    watch.check()
    watched = replace(WATCHED, rules=replace(RULES, volume=20, staleness_seconds=1.0))
    watch.send(calls=2)
    watch.check(watched=watched)
    found = watch.check(watched=watched)
    assert "drift undecided: version 2 has no rows of its evaluation to compare with" in found.text
    assert (found.request.rule, found.request.reason) == (
        "volume",
        "version 2 has answered 30 rows (version 2 at tiny)",
    )
    watch.shop.endpoint.stop("tiny")
    assert watch.check().text == "nothing serves"


SPEC = "model: tiny\nmonitor: {drift: {minimum_rows: 60, window: 1h}, cool_down: 1s}\n"
CODE = "def train(job): ...\n\n\ndef evaluate(job, checkpoint): ...\n\n\ndef export(job, checkpoint): ...\n"


class Airflow:
    """The tasks of the monitor's DAG, one after another."""

    def __init__(self, folder, *, deferred=1):
        self.deferred = deferred
        (folder / "tiny").mkdir(parents=True)
        (folder / "tiny" / "model.yaml").write_text(SPEC)
        (folder / "tiny" / "tiny.py").write_text(CODE)
        self.operator = MonitorModelsOperator(task_id="check", folder=str(folder))
        self.states = {}
        #: to what it does not know
        self.answer = 404

    def run(self):
        """Return the events that a run sends, by asset."""
        outlets = OutletEventAccessors()
        known = {"get_dagrun_state": self.state, "get_dr_count": self.count}
        ti = SimpleNamespace(xcom_push=lambda **_: None, try_number=1, task_id="check", **known)
        dag_run = SimpleNamespace(dag_id="modelway-monitor", run_id="r", triggering_user_name=None)
        context = {"ti": ti, "dag_run": dag_run, "outlet_events": outlets}
        try:
            self.operator.run(context)
            assert not self.deferred
            return {each.dest_asset_key.uri: each.extra for each in outlets[RETRAIN].asset_alias_events}
        except TaskDeferred as deferred:
            assert self.deferred
            module, arguments = deferred.trigger.serialize()
        assert module == "modelway.triggers.monitor.MonitorTrigger"

        async def first():
            return await anext(monitor_trigger.MonitorTrigger(**arguments).run())

        event = asyncio.run(first())
        if isinstance(event, TaskSuccessEvent):
            return {}
        self.operator.resume(context, event.payload)
        return {each.dest_asset_key.uri: each.extra for each in outlets[RETRAIN].asset_alias_events}

    def count(self, *, dag_id, states):
        return sum(state in states for state in self.states.values())

    def state(self, *, dag_id, run_id):
        if (found := self.states.get(f"{dag_id}/{run_id}")) is None:
            detail = {"status_code": self.answer, "message": "as the API server says it"}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        return found


def notified(folder, monkeypatch):
    """Let the spec name a notifier that raises and one that writes to the file that is returned."""
    here, file = "tests.dags.sample_notifiers", folder / "notices.txt"
    monkeypatch.setenv("MODELWAY_NOTIFIERS", f"{here}.*")
    named = f"[{{notifier: {here}.RaisingNotifier}}, {{notifier: {here}.FileNotifier, args: {{path: {file}}}}}]"
    (folder / "models" / "tiny" / "model.yaml").write_text(f"{SPEC}notifications: {{on_retraining: {named}}}\n")
    return file


def test_the_task_sends_one_event_for_the_asset_that_starts_the_models_dag(watch, tmp_path, monkeypatch):
    airflow, monitoring = Airflow(tmp_path / "models"), watch.shop.lineage.monitoring
    notices = notified(tmp_path, monkeypatch)
    watch.send()
    assert airflow.run() == {}
    watch.send(shift=1.5, calls=12)
    assert airflow.run() == {}
    watch.send(shift=1.5, calls=2)
    # A run that somebody else started may be the answer.
    airflow.states["tiny/nightly"] = "running"
    assert airflow.run() == {}
    del airflow.states["tiny/nightly"]
    events = airflow.run()
    (request,) = watch.requests
    assert events == {
        Asset(uri="modelway://tiny/retrain").uri: {
            "request": request.id,
            "rule": "drift",
            "reason": request.reason,
            "rebuild": False,
        }
    }
    assert request.sent_at is not None
    assert notices.read_text() == f"tiny is to be retrained: {request.reason}\n"
    # Its run begins, is over, and made no version.
    monitoring.record_answer(request.id, run="tiny/retrained")
    airflow.states["tiny/retrained"] = "running"
    assert airflow.run() == {}
    assert watch.requests[0].outcome is None
    airflow.states["tiny/retrained"] = "failed"
    airflow.run()
    assert watch.requests[-1].outcome == FAILED


@pytest.mark.parametrize(
    ("state", "rollout", "outcome"),
    [
        ("success", None, "version 2"),
        # It failed once the version was registered, such as in its deployment: nothing is answered.
        ("failed", None, FAILED),
        ("failed", ("aborted", {"reason": "its run ended before it did (failed)"}), FAILED),
        ("failed", ("aborted", {"verdict": {"action": "rollback"}}), "version 2"),
        ("failed", ("aborted", {"approval": {"approved": False, "by": "ann"}}), "version 2"),
        ("failed", ("done", {}), "version 2"),
    ],
)
def test_a_run_that_fails_after_it_made_a_version_answers_where_that_was_judged(monkeypatch, state, rollout, outcome):
    record = rollout and SimpleNamespace(state=rollout[0], detail=rollout[1], version=2)
    store = SimpleNamespace(version_of_run=lambda *_, **__: 2, rollout=lambda *_: record)
    request = SimpleNamespace(model="tiny", endpoint="tiny", run_id="tiny/retrained")
    context = {"ti": SimpleNamespace(get_dagrun_state=lambda **_: state)}
    assert MonitorModelsOperator(task_id="check")._outcome(context, store, request) == outcome


def test_a_run_is_deleted_only_where_airflow_says_so(tmp_path):
    airflow = Airflow(tmp_path / "models")
    store = SimpleNamespace(version_of_run=lambda *_, **__: None, rollout=lambda *_: None)
    request = SimpleNamespace(model="tiny", endpoint="tiny", run_id="tiny/retrained")
    context = {"ti": SimpleNamespace(get_dagrun_state=airflow.state)}
    assert airflow.operator._outcome(context, store, request) == FAILED
    airflow.answer = 503
    assert airflow.operator._outcome(context, store, request) is None


def test_an_endpoint_of_one_host_is_checked_in_the_task(watch, tmp_path, monkeypatch):
    """The triggerer of a deployment with several hosts does not see its servers."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("MODELWAY_HOST", "gateway")
    airflow, before = Airflow(tmp_path / "models", deferred=0), watch.shop.lineage.monitoring.state("tiny").revision
    assert airflow.run() == {}
    assert watch.shop.lineage.monitoring.state("tiny").revision == before + 1
    watch.send(shift=4.0, calls=8)
    assert airflow.run() == {}
    # What it finds there is sent with what the trigger finds of others.
    (tmp_path / "models" / "other").mkdir()
    (tmp_path / "models" / "other" / "model.yaml").write_text(
        SPEC.replace("tiny", "other") + "endpoint: {target: docker}\n"
    )
    (tmp_path / "models" / "other" / "other.py").write_text(CODE)
    airflow.deferred = 1
    watch.send(shift=4.0, calls=8)
    events = airflow.run()
    assert [each["request"] for each in events.values()] == [each.id for each in watch.requests]
    assert len(watch.requests) == 1


def test_an_event_that_was_lost_is_sent_again(watch, tmp_path):
    for _ in range(2):
        watch.send(shift=4.0, calls=8)
        found = watch.check()
    assert found.request is not None
    # The task was killed before it sent the event; an hour later it is sent, and the request is the same.
    assert watch.check(minutes=30).request is None
    again = watch.check(minutes=40).request
    assert again == watch.requests[0]


def test_an_endpoint_that_does_not_answer_fails_its_own_check_alone(watch, tmp_path, monkeypatch):
    def unavailable(endpoint, name):
        raise EndpointNotReady("the gateway does not answer")

    monitoring = watch.shop.lineage.monitoring
    before = monitoring.state("tiny")
    with monkeypatch.context() as patched:
        patched.setattr(LocalEndpoint, "sketches", unavailable)
        airflow = Airflow(tmp_path / "models")
        assert airflow.run() == {}
        after, found = monitoring.state("tiny"), monitoring.last_checks(["tiny", "other"])["tiny"]
        airflow.run()
    assert {**after.state, "unanswered": None} == {**before.state, "unanswered": None}
    assert after.updated_at == found.at == before.updated_at, "when it answered last stays"
    assert "the gateway does not answer" in found.unanswered.reason
    # The time since when stays while it continues, and an answer ends it.
    assert monitoring.last_checks(["tiny"])["tiny"].unanswered.since == found.unanswered.since
    watch.check()
    found = monitoring.last_checks(["tiny"])["tiny"]
    assert (found.unanswered, found.at > before.updated_at) == (None, True)


def test_an_endpoint_that_never_answered_a_check_is_known_to_be_silent(watch):
    monitoring, now = watch.shop.lineage.monitoring, datetime(2026, 3, 1, tzinfo=UTC)
    monitoring.record_unanswered("new", model="tiny", found=Unanswered(since=now, reason="refused", in_part=True))
    found = monitoring.last_checks(["new"])["new"]
    assert (found.version, found.rows, found.unanswered.in_part) == (None, 0, True)
    assert found.unanswered.since == now


def test_a_target_that_cannot_be_opened_keeps_no_other_from_its_check(watch, tmp_path, monkeypatch):
    real = monitor_trigger.open_endpoint

    def opened(target, settings, **place):
        if target == "docker":
            raise EndpointNotReady("the engine does not answer")
        return real(target, settings, **place)

    monkeypatch.setattr(monitor_trigger, "open_endpoint", opened)
    airflow = Airflow(tmp_path / "models")
    (tmp_path / "models" / "other").mkdir()
    (tmp_path / "models" / "other" / "model.yaml").write_text(
        SPEC.replace("tiny", "other") + "endpoint: {target: docker}\n"
    )
    (tmp_path / "models" / "other" / "other.py").write_text(CODE)
    before = watch.shop.lineage.monitoring.state("tiny").revision
    assert airflow.run() == {}
    assert watch.shop.lineage.monitoring.state("tiny").revision == before + 1
    assert watch.shop.lineage.monitoring.state("other") is None
