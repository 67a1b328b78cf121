"""What the operators after a plan make of it: jobs, stages left out, versions taken, and nothing moved."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowSkipException
from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.base import Job as AskedJob
from modelway.backends.base import JobState, JobStatus
from modelway.backends.folders import generations
from modelway.errors import ModelwayError, RolloutAborted, UnknownVersion
from modelway.job.contract import Job
from modelway.lineage.records.version import DatasetRecord, RolloutRecord, RunRecord
from modelway.lineage.store import Lineage, open_lineage
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.find import FindVersionOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.promote import PromoteModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.train import TrainModelOperator
from modelway.runs.messages.checkpoints import Checkpoint, to_xcom
from modelway.runs.messages.version import RegisteredVersion

from tests.job_folders import write_job
from tests.lineage_samples import CODE, digest, make_record

DATASET = {"name": "rows", "uri": "/data/rows", "digest": digest("rows"), "version": None}
PLAN: dict[str, Any] = {
    "inputs": digest("inputs"),
    "interval": {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"},
    "partition": "2026-03-01T00:00:00",
    "reason": "because",
    "params": {"epochs": 4, "lr": 0.5},
    "datasets": [DATASET],
    "base": None,
    "skip": [],
    "version": None,
    "reuse_reason": None,
    "blocked_reason": None,
    "requested": False,
}
ARTIFACT = {"uri": "file:///a.zip", "digest": digest("archive"), "size": 5}
FIRST = {"id": "warmup-000001", "uri": "file:///c1", "digest": digest("c1"), "size": 1}


class Ti(SimpleNamespace):
    """Keeps what a task pushes."""

    def __init__(self) -> None:
        super().__init__(task_id="train.fine", pushed={})

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(run_id: str = "now", **more: Any) -> Any:
    dag_run = SimpleNamespace(
        dag_id="digits",
        run_id=run_id,
        run_type=SimpleNamespace(value="manual"),
        start_date=None,
        run_after=datetime(2026, 3, 10, tzinfo=UTC),
        clear_number=0,
        triggering_user_name="mia",
    )
    return {"dag_run": dag_run, "ti": Ti(), **more}


def planned(**changes: Any) -> dict[str, Any]:
    return {**CODE, "plan": {**PLAN, **changes}}


def trainer(code: Any, **more: Any) -> TrainModelOperator:
    return TrainModelOperator(task_id="train", code=code, stage="fine", job_params={"lr": 0.1}, **more)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.delenv("MODELWAY_ARTIFACT_ROOT", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return tmp_path


@pytest.fixture
def lineage(home: Path) -> Lineage:
    return open_lineage(f"sqlite:///{home}/lineage.db")


def test_jobs_are_given_the_plans_data_and_parameters_under_their_own() -> None:
    evaluator = EvaluateCheckpointOperator(task_id="e", code=planned(), checkpoint=FIRST, job_params={"lr": 0.1})
    for job in (trainer(planned()).job(context()), evaluator.job(context())):
        assert job.params == {"epochs": 4, "lr": 0.1}
        contract = job.contract()
        assert contract["datasets"] == {"rows": {"uri": "/data/rows", "digest": digest("rows"), "version": None}}
        assert contract["interval"] == PLAN["interval"]
        assert contract["partition"] == "2026-03-01T00:00:00"


def test_export_sees_the_runs_parameters() -> None:
    freeze = FreezeModelOperator(task_id="f", code=planned(), selected=SELECTED)
    assert freeze.job(context()).params == {"epochs": 4, "lr": 0.5}


def test_the_format_and_the_command_of_freezing_reach_its_job() -> None:
    freeze = FreezeModelOperator(
        task_id="f", code=planned(), selected=SELECTED, format="files", command=["python", "save.py"]
    )
    contract = freeze.job(context()).contract()
    assert (contract["freeze_format"], contract["command"]) == ("files", ["python", "save.py"])
    assert FreezeModelOperator(task_id="f", code=CODE, selected=SELECTED).job(context()).params == {}


def test_a_job_that_freezes_into_the_default_format_has_the_contract_of_older_releases(tmp_path: Path) -> None:
    job = FreezeModelOperator(task_id="f", code=planned(), selected=SELECTED).job(context())
    older = replace(job, freeze_format=None).contract()
    (tmp_path / "g0" / "try-1").mkdir(parents=True)
    generations.write(tmp_path / "g0" / "generation.json", {"contract": older, "clear_number": 0})
    running = JobStatus(state=JobState.RUNNING)
    # It is found again as it runs, and not run a second time.
    found = generations.generation(tmp_path, contract=job.contract(), clear_number=0, status=lambda _: running)
    assert found == tmp_path / "g0"


def test_without_a_plan_a_job_is_what_it_was() -> None:
    job = trainer(CODE).job(context())
    assert job == AskedJob(
        model="digits",
        run="digits/now",
        key="train.fine",
        stage="fine",
        action="train",
        module="digits.py",
        params={"lr": 0.1},
        code=job.code,
    )
    assert job.contract()["interval"] == {"start": None, "end": None}


def test_the_first_stage_that_runs_starts_from_the_base_and_no_other_does() -> None:
    base = {"version": 3, "checkpoint": {"id": "old", "uri": "file:///old", "digest": digest("old"), "size": 3}}
    assert trainer(planned(base=base)).job(context()).inputs["checkpoint"].uri == "file:///old"
    assert trainer(planned(base=base), start_from=[]).job(context()).inputs["checkpoint"].uri == "file:///old"
    later = trainer(planned(base=base), start_from=[FIRST]).job(context())
    assert later.inputs["checkpoint"].uri == "file:///c1"
    assert trainer(planned()).job(context()).inputs == {}


@pytest.mark.parametrize(("before", "after"), [(None, []), ([FIRST], [FIRST])])
def test_a_stage_that_the_run_skips_gives_on_what_was_there_and_starts_no_job(before: Any, after: Any) -> None:
    now = context()
    assert trainer(planned(skip=["fine"]), start_from=before, seed="7").run(now) == to_xcom(
        map(Checkpoint.from_xcom, after)
    )
    report = now["ti"].pushed["report"]
    assert (report["stage"], report["skipped"], report["events"], report["seed"]) == ("fine", True, None, 7)


def stored_report(home: Path, **changes: Any) -> dict[str, Any]:
    """Return the report of a stage that logged one metric and was given one data set."""
    folder = write_job(home / "job")
    job = Job(folder)
    job.event("dataset", **DATASET, rows=None)
    job.log(step=1, train_loss=0.5)
    events = ArtifactStore((home / "artifacts").as_uri()).put(folder / "events.jsonl", model="digits")
    report = {"stage": "fine", "params": {"lr": 0.1}, "seed": 7, "events": events.to_dict(), "seconds": 30.0, "gpu": 2}
    return {**report, "peak_memory_bytes": 1, "skipped": False, **changes}


SKIPPED = {"stage": "warmup", "params": {}, "seed": 7, "events": None, "seconds": None, "gpu": 0, "skipped": True}
ARCHIVE = {
    "uri": "file:///a.zip",
    "digest": digest("archive"),
    "size": 5,
    "model_digest": digest("model"),
    "files": [{"path": "model/model.onnx", "size": 1, "sha256": digest("onnx")[7:], "role": "model"}],
}
SELECTED = {"checkpoint": FIRST, "metrics": {"loss": 0.5}, "rule": "least loss", "evaluations": []}


def register(code: Any, *, training: Any = (), archive: Any = ARCHIVE, now: Any = None, **more: Any) -> Any:
    needs: dict[str, Any] = {"training": training, "selected": SELECTED, "verified": {}, "spec": {}}
    operator = RegisterModelOperator(task_id="r", code=code, archive=archive, **{**needs, **more})
    return operator.run(now or context())


def test_the_record_tells_data_interval_reason_inputs_and_cost(home: Path, lineage: Lineage) -> None:
    reported = register(planned(), training=[SKIPPED, stored_report(home)])
    assert reported == {
        "format": 1,
        "model": "digits",
        "version": 1,
        "archive": {"uri": "file:///a.zip", "digest": digest("archive"), "size": 5},
        "model_digest": digest("model"),
        "blocked_reason": None,
        "requested": False,
        # The former names, for DAGs that were written with them.
        "held": None,
        "asked": False,
    }
    detail = lineage.version("digits", 1)
    run = detail.run
    assert (run.inputs_digest, run.partition, run.reason) == (digest("inputs"), "2026-03-01T00:00:00", "because")
    assert run.interval_start is not None
    assert run.interval_end is not None
    assert (run.interval_start.isoformat(), run.interval_end.isoformat()) == tuple(PLAN["interval"].values())
    assert run.run_after == datetime(2026, 3, 10, tzinfo=UTC)
    assert (run.seconds, run.gpu_seconds, run.seed) == (30.0, 60.0, 7)
    assert run.datasets == (DatasetRecord(stage="fine", name="rows", uri="/data/rows", digest=digest("rows")),)
    assert detail.params == {"fine": {"lr": 0.1}}
    assert [series.name for series in detail.series] == ["train_loss"]
    assert (detail.summary.checkpoint_uri, detail.summary.aliases) == ("file:///c1", ("candidate",))


def test_without_a_plan_a_version_is_registered_as_ever(home: Path, lineage: Lineage) -> None:
    reported = register(CODE, training=[stored_report(home)])
    assert (reported["version"], reported["blocked_reason"], reported["requested"]) == (1, None, False)
    run = lineage.version("digits", 1).run
    assert (run.inputs_digest, run.interval_end, run.reason) == (None, None, None)


@pytest.mark.usefixtures("home")
def test_a_run_that_is_held_moves_no_alias(lineage: Lineage) -> None:
    reported = register(planned(blocked_reason="a backfill moves nothing"))
    assert reported["blocked_reason"] == "a backfill moves nothing"
    assert lineage.aliases("digits") == {}


@pytest.mark.usefixtures("home")
def test_a_run_that_was_held_and_is_cleared_with_rollout_moves_its_alias(lineage: Lineage) -> None:
    # As a backfill that is done again with other parameters.
    register(planned(blocked_reason="a backfill moves nothing"))
    lineage.register(make_record("other", alias="candidate"))
    register(planned())
    assert lineage.aliases("digits") == {"candidate": 2}
    reported = register(planned(requested=True))
    assert (reported["version"], reported["blocked_reason"], len(lineage.versions("digits"))) == (1, None, 2)
    assert lineage.aliases("digits") == {"candidate": 1}
    # Once: cleared again it moves nothing, as its rollout, which is done by then.
    lineage.set_alias(model="digits", alias="candidate", version=2)
    register(planned(requested=True))
    assert lineage.aliases("digits") == {"candidate": 2}


@pytest.mark.parametrize("taken", [False, True])
def test_a_run_that_asked_for_its_rollout_and_is_cleared_moves_no_alias_again(
    home: Path, lineage: Lineage, taken: bool
) -> None:
    if taken:
        lineage.register(make_record("earlier"))
    plan = (
        planned(version=TAKEN, reuse_reason="the run requests it", requested=True) if taken else planned(requested=True)
    )
    register(plan, archive=None if taken else ARCHIVE)
    assert lineage.aliases("digits") == {"candidate": 1}
    lineage.register(make_record("other", alias="candidate"))
    register(plan, archive=None if taken else ARCHIVE)
    assert lineage.aliases("digits") == {"candidate": 2}


def test_a_run_that_took_a_version_when_it_was_held_moves_its_alias_when_it_is_cleared_with_rollout(
    lineage: Lineage,
) -> None:
    lineage.register(make_record("earlier"))
    lineage.register(make_record("other", alias="candidate"))
    register(planned(version=TAKEN, reuse_reason="…", blocked_reason="a backfill moves nothing"), archive=None)
    assert lineage.aliases("digits") == {"candidate": 2}
    register(planned(version=TAKEN, reuse_reason="…", requested=True), archive=None)
    assert lineage.aliases("digits") == {"candidate": 1}


def later(run_id: str, **fields: Any) -> Any:
    """Return the record of a run of the day after that of PLAN."""
    ends = datetime(2026, 3, 3, tzinfo=UTC)
    run = RunRecord(dag_id="digits", run_id=run_id, interval_end=ends, interval_start=ends, run_after=ends)
    return make_record(run_id, run=run, **fields)


@pytest.mark.usefixtures("home")
def test_a_run_that_a_later_one_passed_since_its_plan_moves_nothing(lineage: Lineage) -> None:
    # As when its failed training is cleared, which does not clear the plan, or when the later run is faster.
    lineage.register(later("passed", alias="candidate"))
    reported = register(planned())
    assert (reported["version"], reported["blocked_reason"]) == (
        2,
        "version 1 is of later data (up to 2026-03-03 00:00Z): nothing moves unless the run's parameter rollout is yes",
    )
    assert lineage.aliases("digits") == {"candidate": 1}
    assert register(planned(requested=True), now=context("wanted"))["blocked_reason"] is None
    assert lineage.aliases("digits") == {"candidate": 3}


def test_a_version_that_is_taken_when_a_newer_one_has_come_since_moves_nothing(lineage: Lineage) -> None:
    lineage.register(make_record("earlier"))
    lineage.register(make_record("other", alias="candidate"))
    reported = register(planned(version=TAKEN, reuse_reason="…"), archive=None)
    assert reported["blocked_reason"].startswith(
        "version 2 is newer than version 1, which is reused: nothing moves unless"
    )
    assert lineage.aliases("digits") == {"candidate": 2}


TAKEN = {"model": "digits", "version": 1, "archive": ARTIFACT, "model_digest": "x"}


def test_a_version_that_is_taken_is_given_on_and_the_record_says_so(lineage: Lineage) -> None:
    lineage.register(make_record("earlier"))
    plan = planned(version=TAKEN, reuse_reason="the inputs are those of version 1 (run earlier)")
    for _ in range(2):
        reported = register(plan, archive=None)
        assert (reported["version"], reported["model_digest"]) == (1, digest("modelearlier"))
    assert len(lineage.versions("digits")) == 1
    assert lineage.aliases("digits") == {"candidate": 1}
    # Cleared when the alias has moved on, the run leaves it there.
    lineage.register(make_record("other", alias="candidate"))
    register(plan, archive=None)
    assert lineage.aliases("digits") == {"candidate": 2}
    (event,) = [event for event in lineage.events("digits") if event.kind == "version-reused"]
    assert (event.version, event.run_id, event.actor) == (1, "now", "mia")
    assert event.detail["reason"] == "the inputs are those of version 1 (run earlier): because"


def test_a_version_that_is_taken_by_a_run_that_is_held_gets_no_alias(lineage: Lineage) -> None:
    lineage.register(make_record("earlier"))
    assert (
        register(planned(version=TAKEN, reuse_reason="…", blocked_reason="no"), archive=None)["blocked_reason"] == "no"
    )
    assert lineage.aliases("digits") == {}


def test_training_that_was_skipped_and_then_cleared_by_hand_registers_what_it_made(lineage: Lineage) -> None:
    lineage.register(make_record("earlier"))
    assert register(planned(version=TAKEN, reuse_reason="…"))["version"] == 2


@pytest.mark.usefixtures("home")
def test_nothing_frozen_and_nothing_taken_is_refused() -> None:
    with pytest.raises(
        ModelwayError, match="nothing to register: no task froze a model, and the plan reuses no version"
    ):
        register(planned(), archive=None)


@pytest.mark.parametrize("taken", [False, True])
def test_an_outlets_event_tells_the_version(lineage: Lineage, taken: bool) -> None:
    lineage.register(make_record("earlier"))
    asset = Asset(uri="modelway://digits")
    events = {asset: SimpleNamespace(extra={})}
    now = context(outlet_events=events)
    plan = planned(version=TAKEN, reuse_reason="…") if taken else planned()
    register(plan, archive=None if taken else ARCHIVE, now=now, outlets=[asset])
    made = lineage.version("digits", 1 if taken else 2).summary
    assert events[asset].extra == {
        **{"model": "digits", "version": made.number, "reused": taken},
        **{"digest": made.archive_digest, "model_digest": made.model_digest},
    }


def test_a_version_that_is_worse_than_the_champion_is_registered_and_moves_nothing(lineage: Lineage) -> None:
    values = {
        "metric": "loss",
        "value": 0.5,
        "other": 0.4,
        "gate": "<= champion",
        "reference": "champion",
        "version": 7,
    }
    worse = register(planned(), verified={"comparisons": [{**values, "passes": False}]})
    assert worse["blocked_reason"] == (
        "loss is 0.5, that of champion (v7) is 0.4, must be <= champion: the version is registered and not rolled out"
    )
    assert lineage.version("digits", worse["version"]).summary.aliases == ()
    better = register(planned(), now=context("better"), verified={"comparisons": [{**values, "passes": True}]})
    assert better["blocked_reason"] is None
    assert lineage.version("digits", better["version"]).summary.aliases == ("candidate",)


def test_reports_that_skipped_stages_never_left_are_not_asked_for() -> None:
    with DAG("digits", schedule=None):
        train = TrainModelOperator(task_id="train", code=CODE)
        freeze = FreezeModelOperator(task_id="freeze", code=CODE, selected={})
        needs: dict[str, Any] = {"code": CODE, "selected": {}, "verified": {}, "archive": freeze.output}
        operator = RegisterModelOperator(task_id="register", training=[train.output["report"]], **needs)
    given: dict[tuple[str, str], Any] = {}

    def pull(*, task_ids: str, key: str, default: Any, **_: Any) -> Any:
        return given.get((task_ids, key), default)

    ti: Any = SimpleNamespace(xcom_pull=pull, dag_id="digits")
    operator.render_template_fields({"ti": ti})
    assert (operator.archive, operator.training) == (None, ())


@pytest.mark.parametrize(
    "operator",
    [
        DeployModelOperator(task_id="d", version={**TAKEN, "held": "a backfill moves nothing"}, image={}),
        PromoteModelOperator(task_id="p", version={**TAKEN, "held": "a backfill moves nothing"}, deployment=None),
    ],
)
def test_a_run_that_is_held_is_skipped_where_traffic_would_move(operator: Any) -> None:
    with pytest.raises(AirflowSkipException, match="a backfill moves nothing"):
        operator.run(context())


def test_an_older_version_takes_over_only_when_somebody_asks_for_it(lineage: Lineage) -> None:
    for run in ("a", "b", "c"):
        lineage.register(make_record(run))
    current: Any = SimpleNamespace(predictors=[SimpleNamespace(name="v5", version=5, weight=100)], stable="v5")
    version = RegisteredVersion.from_xcom({**TAKEN, "version": 3})
    operator = DeployModelOperator(task_id="d", version={}, image={})

    def begin(run: str, *, requested: bool) -> RolloutRecord:
        record = RolloutRecord(endpoint="digits", run_id=run, model="digits", version=3, state="running")
        lineage.save_rollout(record)
        return operator._begin(context(), lineage, replace(version, requested=requested), current, record)

    with pytest.raises(RolloutAborted, match="version 5 serves already and is newer than version 3.*parameter version"):
        begin("digits/1", requested=False)
    closed = lineage.rollout("digits", "digits/1")
    assert closed is not None
    assert closed.state == "aborted"
    rollout = begin("digits/2", requested=True)
    assert (rollout.version, rollout.detail["stable"]) == (3, 5)


def test_a_version_is_found_by_number_or_alias(lineage: Lineage) -> None:
    lineage.register(make_record("a", alias="champion"))
    lineage.register(make_record("b"))
    for wanted, number in (("champion", 1), ("2", 2), ("v1", 1), (2, 2), ("latest", 2)):
        reported = FindVersionOperator(task_id="f", model="digits", version=wanted).run(context())
        assert (reported["version"], reported["blocked_reason"], reported["requested"]) == (number, None, True)
        assert reported["archive"]["uri"] == "file:///artifacts/a.zip"
    with pytest.raises(UnknownVersion, match="no version 'best'. Known: 1 to 2, latest, champion"):
        FindVersionOperator(task_id="f", model="digits", version="best").run(context())


def test_a_stages_report_tells_its_gpus(home: Path) -> None:
    folder = write_job(home / "job")
    with Job(folder).checkpoint(step=1) as path:
        path.write_text("x")
    operator, now = trainer(planned(), options={"gpu": 2}), context()
    job: Any = SimpleNamespace(model="digits", params={}, seed=0)
    operator.collect(now, job=job, folder=folder, status=JobStatus.from_dict({"state": "succeeded", "seconds": 9.0}))
    report = now["ti"].pushed["report"]
    assert (report["gpu"], report["seconds"], report["skipped"]) == (2, 9.0, False)


def test_an_archive_tells_the_data_sets_and_the_stages_that_ran(home: Path) -> None:
    report = stored_report(home)
    (home / "job" / "output" / "archive" / "model").mkdir(parents=True)
    (home / "job" / "output" / "archive" / "model" / "model.onnx").write_text("onnx")
    selected = {**SELECTED, "checkpoint": {**FIRST, "stage": "fine", "step": 1}}
    freeze = FreezeModelOperator(task_id="f", code=planned(), selected=selected, training=[SKIPPED, report])
    job: Any = SimpleNamespace(model="digits")
    reported = freeze.collect(
        context(), job=job, folder=home / "job", status=JobStatus.from_dict({"state": "succeeded"})
    )
    archive = ArtifactStore("").fetch(Artifact.from_dict(reported), to=home / "archive.zip")
    unpack_archive(archive=archive, to=home / "unpacked")
    training = json.loads((home / "unpacked" / "inputs" / "training.yml").read_text())
    assert training == {
        "stages": [{"name": "fine", "params": {"lr": 0.1}}],
        "datasets": [{"stage": "fine", **DATASET, "rows": None}],
    }
