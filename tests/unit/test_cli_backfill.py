"""``modelway backfill plan`` over real specs and a real lineage database."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from modelway.cli import main
from modelway.hooks.interval import intervals_between
from modelway.lineage.records.version import RunRecord
from modelway.lineage.store import Lineage, open_lineage
from modelway.operators.package import PackageCodeOperator
from modelway.operators.plan import PlanRunOperator
from modelway.spec.load import load_spec

from tests.lineage_samples import digest, make_record
from tests.unit.spec_samples import write_model

SPEC = """\
model: digits
schedule: "@daily"
reuse: same-inputs
params: {epochs: 4}
datasets: {rows: "DATA/{{ data_interval_start | ds }}.csv"}
"""


class Desk:
    """The models, their data and the lineage that the command sees."""

    def __init__(self, root: Path) -> None:
        self.root, self.models = root, root / "models"
        for day, text in ((1, "one"), (2, "one"), (3, "three")):
            (root / f"2026-01-0{day}.csv").write_text(text)

    def model(self, spec: str = SPEC, name: str = "digits") -> Path:
        return write_model(self.models, name, spec=spec.replace("DATA", str(self.root)))

    @property
    def lineage(self) -> Lineage:
        return open_lineage(f"sqlite:///{self.root}/home/lineage.db")

    def register(self, run_id: str, **fields: Any) -> int:
        return self.lineage.register(make_record(run_id, run=RunRecord(dag_id="digits", run_id=run_id, **fields)))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.delenv("MODELWAY_ENV", raising=False)
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return Desk(tmp_path)


def call(first: str = "2026-01-01", last: str = "2026-01-04", *more: str, model: str = "digits") -> int:
    return main(["backfill", "plan", model, "--from", first, "--to", last, *more])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert call(*(arguments or ("2026-01-01", "2026-01-04")), "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def test_each_interval_is_listed_with_what_happens_to_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model()
    assert call() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "digits: intervals of '@daily' (UTC)",
        "",
        "2026-01-01T00:00Z to 2026-01-02T00:00Z  train",
        "2026-01-02T00:00Z to 2026-01-03T00:00Z  reuse  "
        "the version of 2026-01-01T00:00:00+00:00, when that run has ended",
        "2026-01-03T00:00Z to 2026-01-04T00:00Z  train",
        f"2026-01-04T00:00Z to 2026-01-05T00:00Z  fail   {desk.root}/2026-01-04.csv: data set 'rows' is not there. "
        "Put it there, or change its uri.",
    ]
    assert "4 intervals: 2 to train, 1 to reuse, 1 that cannot run" in lines
    assert "Expected training: unknown, no run has recorded the cost of training yet" in lines
    create = "airflow backfill create --dag-id digits --from-date 2026-01-01T00:00:00+00:00 --to-date"
    assert f"  {create} 2026-01-04T00:00:00+00:00" in lines
    assert lines[-1] == f"""  {create} 2026-01-04T00:00:00+00:00 --dag-run-conf '{{"rollout": "yes"}}'"""
    assert not (desk.root / "home").exists(), "a plan writes nothing"


def test_the_plan_counts_the_same_inputs_as_a_run_does(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    folder = desk.model()
    spec = load_spec(folder).to_dict()
    run: dict[str, Any] = {"dag_id": "digits", "run_id": "backfill__1", "run_after": None, "partition_key": None}
    run |= {"triggering_user_name": None, "consumed_asset_events": [], "run_type": SimpleNamespace(value="backfill")}
    context: Any = {"dag_run": SimpleNamespace(**run), "params": {"epochs": 4, "skip": [], "seed": 0}}
    context["data_interval_start"] = datetime(2026, 1, 1, tzinfo=UTC)
    context["data_interval_end"] = datetime(2026, 1, 2, tzinfo=UTC)
    code = PackageCodeOperator(task_id="package", model="digits", folder=str(folder), module="digits.py").run(context)
    with DAG("digits", schedule=None):
        plan = PlanRunOperator(task_id="plan", code=code, spec=spec).run(context)["plan"]
    desk.register("backfill__1", inputs_digest=plan["inputs"])
    capsys.readouterr()
    first, second, third, _ = printed(capsys)["intervals"]
    assert first["why"] == second["why"] == "version 1 has the same inputs"
    assert (first["outcome"], second["outcome"], third["outcome"]) == ("reuse", "reuse", "train")
    (folder / "digits.py").write_text("# changed\n" + (folder / "digits.py").read_text())
    assert printed(capsys)["intervals"][0]["outcome"] == "train"


def test_without_reuse_everything_is_trained(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model(SPEC.replace("reuse: same-inputs\n", ""))
    assert printed(capsys)["counts"] == {"train": 4, "reuse": 0, "done": 0, "fail": 0}


def test_data_of_which_nothing_is_known_is_trained_and_says_so(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model(SPEC.replace("DATA/{{ data_interval_start | ds }}.csv", "warehouse://rows"))
    plan = printed(capsys)
    assert {(run["outcome"], run["why"]) for run in plan["intervals"]} == {
        ("train", "a data set has neither digest nor version")
    }


def test_an_interval_that_was_run_before_is_passed_over_as_airflow_does(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.model()
    for number, kind in enumerate(("scheduled", "manual"), start=1):
        start, end = datetime(2026, 1, number, tzinfo=UTC), datetime(2026, 1, number + 1, tzinfo=UTC)
        desk.register(f"{kind}__1", run_type=kind, interval_start=start, interval_end=end)
    first, second, *_ = printed(capsys)["intervals"]
    assert first["outcome"] == "done"
    assert first["why"] == "version 1; runs again with --reprocess-behavior"
    # A run by hand has no place in the schedule.
    assert second["outcome"] == "train"


def test_what_training_takes_is_reported_from_the_newest_runs(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model()
    desk.register("unknown")
    for seconds, gpu_seconds in ((1800.0, 3600.0), (5400.0, 10800.0)):
        desk.register(f"run-{seconds}", seconds=seconds, gpu_seconds=gpu_seconds)
    assert printed(capsys)["expected_training"] == {"seconds": 7200.0, "gpu_hours": 4.0, "from_runs": 2}
    assert call() == 0
    assert "Expected training: 2.0 hours, 4 GPU-hours, by the mean of the 2 newest runs" in capsys.readouterr().out


def test_a_start_from_a_version_counts(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model(SPEC + "train: {base: champion}\n")
    assert printed(capsys)["counts"]["train"] == 2
    desk.register("run-1")
    desk.lineage.set_alias(model="digits", alias="champion", version=1)
    assert call() == 1
    assert "the checkpoint of version 1 is gone" in capsys.readouterr().err


def test_where_each_run_starts_from_the_newest_version_none_is_reused_after_the_first_that_trains(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.model(SPEC + "train: {base: latest}\n")
    first, second, *_ = printed(capsys)["intervals"]
    assert (first["outcome"], first["why"]) == ("train", "")
    # The same data as the day before, and another start.
    assert (second["outcome"], second["why"]) == ("train", "starts from the version before it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2026-01-05", "2026-01-01"), "--from 2026-01-05 is later than --to 2026-01-01. Swap them."),
        (("yesterday", "2026-01-01"), "--from 'yesterday' is not a date. Write it like 2026-01-31"),
        (("2026-01-01", "2026-13-01"), "--to '2026-13-01' is not a date"),
        (("0001-01-01T00:00+01:00", "2026-01-01"), "--from '0001-01-01T00:00+01:00' is not a date"),
        (("2026-01-01T01:00", "2026-01-01T02:00"), "no interval of '@daily' (UTC) starts within 2026-01-01 01:00Z"),
        (("2126-01-01", "2126-01-09"), "and has ended. Choose another range."),
        (("1970-01-01", "2026-01-01"), "there are more than 300 intervals. Choose a shorter range."),
    ],
)
def test_a_range_that_cannot_be_planned_is_refused(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str],
    message: str,
) -> None:
    # Finding an interval of a cron takes half a millisecond.
    monkeypatch.setattr("modelway.cli.backfill.MOST", 300)
    desk.model()
    assert call(*arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("model: digits\n", "'digits' has no cron, so its runs have no intervals"),
        ("model: digits\nschedule: {cron: '@daily', backfill: false}\n", "'digits' allows no backfill. Remove"),
        ("model: digits\nschedule: {cron: nonsense}\n", "model.yaml:2"),
    ],
)
def test_a_model_that_cannot_be_backfilled_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], spec: str, message: str
) -> None:
    desk.model(spec)
    assert call() == 1
    assert message in capsys.readouterr().err


def test_an_unknown_model_is_refused_with_the_known_ones(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model()
    assert call(model="digit") == 1
    assert "there is no model 'digit'. Known: digits. Did you mean 'digits'?" in capsys.readouterr().err


def test_an_environment_of_no_model_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.model()
    monkeypatch.setenv("MODELWAY_ENV", "prd")
    assert call() == 1
    assert "'prd' is an environment of no model here" in capsys.readouterr().err


def test_many_intervals_are_planned_soon(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.model(SPEC.replace('"@daily"', '"@hourly"').replace("{{ data_interval_start | ds }}", "2026-01-01"))
    began = time.process_time()
    plan = printed(capsys, "2024-01-01", "2024-02-15")
    assert len(plan["intervals"]) > 1_000
    assert plan["counts"]["reuse"] == len(plan["intervals"]) - 1
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("@daily", "UTC"), ("30 2 * * *", "Europe/Berlin"), ("0 */6 * * 1-5", "America/New_York"), ("@monthly", "UTC")],
)
def test_the_intervals_are_those_of_airflows_own_backfill(cron: str, timezone: str) -> None:
    from airflow.sdk import CronDataIntervalTimetable
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DAG("digits", schedule=CronDataIntervalTimetable(cron, timezone=timezone))
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    # Over both changes of the clocks.
    for month in (3, 10):
        first, last = datetime(2025, month, 1, tzinfo=UTC), datetime(2025, month + 1, 5, tzinfo=UTC)
        expected = [info.data_interval for info in stored.iter_dagrun_infos_between(first, last)]
        found = list(intervals_between(cron, timezone, first=first, last=last))
        assert found == [(interval.start, interval.end) for interval in expected]
        assert found


def test_the_digest_of_the_code_is_that_of_the_package(desk: Desk) -> None:
    from modelway.cli.backfill import _code_digest

    assert _code_digest(desk.model()) == _code_digest(desk.models / "digits") != digest("code")
