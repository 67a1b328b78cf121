"""What a run decides before it trains: interval, parameters, data, start, reuse, and whether anything moves."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import DownstreamTasksSkipped
from modelway.artifacts.store import ArtifactStore
from modelway.errors import DigestMismatch, InvalidDataset, ModelwayError, UnknownVersion
from modelway.lineage.records.monitoring import Check, MonitorState, RetrainRequest
from modelway.lineage.records.version import RunRecord
from modelway.lineage.store import open_lineage
from modelway.operators.plan import PlanRunOperator
from modelway.spec.model import ModelSpec

from tests.lineage_samples import CODE, digest, make_record

DAILY = {"cron": "@daily"}


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, number, hour, tzinfo=UTC)


class Shop:
    """Plans of runs of one model, and what they meet in the lineage."""

    def __init__(self, home: Any) -> None:
        self.home = home
        self.lineage = open_lineage(f"sqlite:///{home / 'lineage.db'}")

    def plan(self, *, run: str = "now", spec: dict[str, Any] | None = None, code: Any = None, **given: Any) -> Any:
        """Return the plan of a run, training skipped or not."""
        dag_run = SimpleNamespace(
            dag_id="digits",
            run_id=run,
            run_type=SimpleNamespace(value=given.pop("run_type", "manual")),
            run_after=given.pop("run_after", day(10, 12)),
            partition_key=given.pop("partition_key", None),
            consumed_asset_events=given.pop("events", []),
            triggering_user_name=None,
            conf=given.pop("conf", None),
        )
        context: dict[str, Any] = {"dag_run": dag_run, "params": given.pop("params", {}), "ti": self}
        if "interval" in given:
            context["data_interval_start"], context["data_interval_end"] = given.pop("interval")
        dag_params = given.pop("dag_params", {})
        assert not given
        with DAG("digits", schedule=None, params=dag_params):
            operator = PlanRunOperator(task_id="plan", code={**CODE, **(code or {})}, spec=full(**(spec or {})))
        self.pushed = None
        try:
            return operator.run(context)["plan"]
        except DownstreamTasksSkipped:
            return self.pushed["plan"]

    def xcom_push(self, *, key: str, value: Any) -> None:
        assert key == "return_value"
        self.pushed = value

    def register(self, run: str = "earlier", *, plan: Any = None, **run_fields: Any) -> int:
        """Register the version that a run made, as its plan said."""
        if plan:
            times = {f"interval_{side}": time for side, time in plan["interval"].items() if time}
            run_fields |= {"inputs_digest": plan["inputs"]}
            run_fields |= {name: datetime.fromisoformat(time) for name, time in times.items()}
            run_fields = {"run_after": day(10, 12), **run_fields}
        return self.lineage.register(make_record(run, run=RunRecord(dag_id="digits", run_id=run, **run_fields)))


def test_a_field_that_the_run_does_not_have_is_refused_with_the_nearest(shop: Shop) -> None:
    spec = {"params": {"epochs": 3}}
    with pytest.raises(ModelwayError, match="the run has no field 'epoch'. Known: base, epochs, .* mean 'epochs'"):
        shop.plan(spec=spec, conf={"epoch": 5}, params={"epochs": 3, "epoch": 5})
    with pytest.raises(ModelwayError, match="the run has no field 'rolout', 'sed'. .* mean 'rollout'"):
        shop.plan(spec=spec, conf={"rolout": "no", "seed": 1, "sed": 2})
    assert shop.plan(spec=spec, conf={"epochs": 5, "reason": "a try"}, params={"epochs": 5})["params"] == {"epochs": 5}
    assert shop.plan(spec=spec, conf={"mine": 1}, dag_params={"mine": 0})["params"] == {"epochs": 3}


def full(**sections: Any) -> dict[str, Any]:
    return ModelSpec.model_validate({"model": "digits", **sections}).to_dict()


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Shop:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return Shop(tmp_path)


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images.bin").write_text("one")
    return tmp_path / "images.bin"


REUSE = {"reuse": "same-inputs"}


def test_a_plan_of_a_plain_run(shop):
    plan = shop.plan()
    assert plan.pop("inputs").startswith("sha256:")
    assert plan == {
        "interval": {"start": None, "end": "2026-03-10T12:00:00+00:00"},
        "partition": None,
        "reason": None,
        "params": {},
        "datasets": [],
        "base": None,
        "skip": [],
        "version": None,
        "reuse_reason": None,
        "blocked_reason": None,
        "requested": False,
        # The former names, for DAGs that were written with them.
        "taken": None,
        "held": None,
        "asked": False,
    }


def test_the_interval_is_the_runs_own(shop):
    plan = shop.plan(spec={"schedule": DAILY}, interval=(day(1), day(2)))
    assert plan["interval"] == {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"}
    assert plan["partition"] == "2026-03-01T00:00:00"


def test_a_run_by_hand_of_a_scheduled_model_gets_the_last_interval_that_is_over(shop):
    plan = shop.plan(spec={"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}})
    assert plan["interval"] == {"start": "2026-03-09T02:00:00+00:00", "end": "2026-03-10T02:00:00+00:00"}


@pytest.mark.parametrize("end", [10, 9])
def test_an_interval_that_does_not_last_is_none(shop, end):
    # The form dates a run by hand, and a model without a cron gets an interval from that date to itself.
    plan = shop.plan(interval=(day(10), day(end)))
    assert plan["interval"] == {"start": None, "end": "2026-03-10T12:00:00+00:00"}
    assert plan["partition"] is None
    plan = shop.plan(spec={"schedule": DAILY}, interval=(day(10), day(end)))
    assert plan["interval"] == {"start": "2026-03-09T00:00:00+00:00", "end": "2026-03-10T00:00:00+00:00"}


def test_a_partition_key_names_the_partition(shop):
    assert shop.plan(partition_key="north")["partition"] == "north"


def test_parameters_of_the_form_are_taken_and_others_keep_their_default(shop):
    spec = {"params": {"epochs": 4, "flip": True, "rate": 0.5}, "train": {"seed": 3}}
    assert shop.plan(spec=spec)["params"] == {"epochs": 4, "flip": True, "rate": 0.5}
    given = {"epochs": 9, "flip": False, "rate": 0.0, "skip": [], "seed": None, "else": 1}
    assert shop.plan(spec=spec, params=given)["params"] == {"epochs": 9, "flip": False, "rate": 0.0}


def test_data_sets_are_filled_in_and_read(shop, images):
    images.rename(images.with_name("2026-03-01-4.bin"))
    spec = {
        "schedule": DAILY,
        "params": {"part": 4},
        "datasets": {
            "images": {
                "uri": f"{images.parent}/{{{{ data_interval_start | ds }}}}-{{{{ params.part }}}}.bin",
                "version": "{{ partition }}",
            }
        },
    }
    (found,) = shop.plan(spec=spec, interval=(day(1), day(2)))["datasets"]
    assert found == {
        "name": "images",
        "uri": f"{images.parent}/2026-03-01-4.bin",
        "digest": digest("one"),
        "version": "2026-03-01T00:00:00",
    }
    with pytest.raises(InvalidDataset, match="data set 'images' is not there"):
        shop.plan(spec=spec, interval=(day(2), day(3)))


def test_pinned_data_that_changed_stops_the_run(shop, images):
    spec = {"datasets": {"images": {"uri": str(images), "digest": digest("one")}}}
    assert shop.plan(spec=spec)["datasets"][0]["digest"] == digest("one")
    images.write_text("two")
    with pytest.raises(DigestMismatch, match=f"is {digest('two')}, not {digest('one')}"):
        shop.plan(spec=spec)


TWO = {"train": {"stages": [{"name": "warmup"}, {"name": "fine"}]}}


def test_stages_to_skip_are_known_and_leave_one(shop):
    assert shop.plan(spec=TWO, params={"skip": ["warmup"]})["skip"] == ["warmup"]
    with pytest.raises(ModelwayError, match=r"no stage 'warm' to skip. Known: warmup, fine. Did you mean 'warmup'"):
        shop.plan(spec=TWO, params={"skip": ["warm"]})
    with pytest.raises(ModelwayError, match="every stage is to be skipped.*parameter version"):
        shop.plan(spec=TWO, params={"skip": ["fine", "warmup"]})


def test_the_inputs_differ_with_everything_that_a_version_depends_on_and_with_nothing_else(shop, images):
    spec = {**TWO, "params": {"epochs": 4}, "datasets": {"images": str(images)}}

    def inputs(*, spec=spec, **given):
        return shop.plan(spec=spec, **given)["inputs"]

    same = inputs()
    assert inputs() == same
    assert inputs(run="other", run_after=day(20), params={"reason": "why not", "rollout": "no"}) == same
    reported = {"description": "x", "owner": "mia", "deadline": "1h", "rollout": {"steps": [10, 100]}}
    assert inputs(spec={**spec, **reported, "evaluate": {"parallel": 9}}) == same
    # Where the data is does not matter, nor when it is for, as long as it is the same data.
    other = images.with_name("copy.bin")
    other.write_text("one")
    assert inputs(spec={**spec, "schedule": DAILY, "datasets": {"images": str(other)}}) == same

    seen = [
        inputs(code={"digest": digest("other code")}),
        inputs(params={"epochs": 5}),
        inputs(params={"seed": 5}),
        inputs(params={"skip": ["fine"]}),
        inputs(spec={**spec, "train": {**TWO["train"], "params": {"lr": 1}}}),
        inputs(spec={**spec, "train": {"stages": [{"name": "warmup"}, {"name": "fine", "command": ["true"]}]}}),
        inputs(spec={**spec, "evaluate": {"params": {"rows": 9}}}),
        inputs(spec={**spec, "select": {"metric": "accuracy", "mode": "max"}}),
        inputs(spec={**spec, "verify": {"gates": {"accuracy": ">= 0.9"}}}),
        inputs(spec={**spec, "datasets": {"pictures": str(images)}}),
    ]
    images.write_text("two")
    seen.append(inputs())
    assert len({same, *seen}) == len(seen) + 1


def test_without_data_sets_the_interval_stands_for_the_data(shop):
    spec = {"schedule": DAILY}
    first = shop.plan(spec=spec, interval=(day(1), day(2)))["inputs"]
    assert shop.plan(spec=spec, interval=(day(1), day(2)), run_after=day(20))["inputs"] == first
    assert shop.plan(spec=spec, interval=(day(2), day(3)))["inputs"] != first


def test_without_data_sets_the_partition_stands_for_the_data(shop, images):
    north, south = ({"partition_key": key} for key in ("north", "south"))
    assert shop.plan(**north)["inputs"] == shop.plan(**north, run_after=day(20))["inputs"]
    assert shop.plan(**north)["inputs"] != shop.plan(**south)["inputs"]
    spec = {"datasets": {"images": str(images)}}
    assert shop.plan(**north, spec=spec)["inputs"] == shop.plan(**south, spec=spec)["inputs"]


def test_the_same_inputs_take_the_version_that_is_there(shop):
    shop.register(plan=shop.plan(run="earlier", spec=REUSE))
    plan = shop.plan(spec=REUSE)
    assert plan["reuse_reason"] == "the inputs are those of version 1 (run earlier)"
    assert plan["version"] == {
        "model": "digits",
        "version": 1,
        "archive": {"uri": "file:///artifacts/a.zip", "digest": digest("archiveearlier"), "size": 4321},
        "model_digest": digest("modelearlier"),
    }
    assert (plan["blocked_reason"], plan["requested"]) == (None, False)
    assert shop.plan(spec={"reuse": "never"})["version"] is None
    assert shop.plan(spec=REUSE, params={"seed": 9})["version"] is None


def test_a_cleared_run_that_made_the_version_trains_again(shop):
    plan = shop.plan(run="earlier", spec=REUSE)
    shop.register(plan=plan)
    assert shop.plan(run="earlier", spec=REUSE) == plan
    # Not even a version of another run with these inputs keeps it from that.
    shop.register("twin", plan=plan)
    assert shop.plan(run="earlier", spec=REUSE)["version"] is None


def test_a_cleared_run_that_took_a_version_takes_it_again(shop):
    shop.register(plan=shop.plan(run="earlier", spec=REUSE))
    assert shop.plan(spec=REUSE) == shop.plan(spec=REUSE)


def test_data_that_cannot_be_distinguished_is_never_taken_for_the_same(shop):
    spec = {**REUSE, "datasets": {"sales": "warehouse://sales"}}
    plan = shop.plan(run="earlier", spec=spec)
    assert plan["inputs"] is None
    shop.register(plan=plan)
    assert shop.plan(spec=spec)["version"] is None
    reported = {**REUSE, "datasets": {"sales": {"uri": "warehouse://sales", "version": "7"}}}
    shop.register("second", plan=shop.plan(run="second", spec=reported))
    assert shop.plan(spec=reported)["version"]["version"] == 2


def test_an_older_version_of_the_same_inputs_does_not_take_over_by_itself(shop):
    shop.register(plan=shop.plan(run="earlier", spec=REUSE))
    shop.register("other", inputs_digest=digest("else"))
    plan = shop.plan(spec=REUSE)
    assert plan["version"]["version"] == 1
    assert plan["blocked_reason"] == (
        "version 2 is newer than version 1, which is reused: nothing moves unless the run's parameter rollout is yes"
    )
    plan = shop.plan(spec=REUSE, params={"rollout": "yes"})
    assert (plan["blocked_reason"], plan["requested"]) == (None, True)


def test_a_version_that_is_asked_for_is_taken(shop):
    for number in (1, 2):
        assert shop.register(f"run-{number}") == number
    shop.lineage.set_alias(model="digits", alias="champion", version=1)
    for wanted in ("1", "v1", "champion"):
        plan = shop.plan(params={"version": wanted})
        assert (plan["version"]["version"], plan["reuse_reason"]) == (1, "the run requests it")
        assert (plan["requested"], plan["blocked_reason"], plan["inputs"]) == (True, None, None)
    assert shop.plan(params={"version": "1", "rollout": "no"})["blocked_reason"] == "the run's parameter rollout is no"
    assert "backfill" in shop.plan(params={"version": "1"}, run_type="backfill")["blocked_reason"]
    with pytest.raises(UnknownVersion, match="no version '7'. Known: 1 to 2, latest, champion"):
        shop.plan(params={"version": "7"})


def test_rollout_is_one_of_four(shop):
    with pytest.raises(ModelwayError, match="'maybe' is not a value of rollout. Known: auto, no, rollback, yes"):
        shop.plan(params={"rollout": "maybe"})


def test_a_rollback_names_the_version(shop):
    with pytest.raises(ModelwayError, match="a rollback is to a version, and the run names none. Set its parameter"):
        shop.plan(params={"rollout": "rollback"})


@pytest.mark.parametrize(
    ("form", "refusal"),
    [
        ({"hold_at": 100}, "hold_at is 100, and no per cent from 1 to 99"),
        ({"hold_at": "30"}, "hold_at is '30', and no per cent"),
        ({"hold_at": 30, "rollout": "rollback", "version": "1"}, "the run's parameter rollout is rollback"),
    ],
)
def test_a_rollout_is_held_at_a_share_alone(shop, form, refusal):
    with pytest.raises(ModelwayError, match=refusal):
        shop.plan(params=form)


def test_a_backfill_moves_nothing_unless_it_is_asked_to(shop):
    given = {"run_type": "backfill", "interval": (day(1), day(2))}
    assert shop.plan(**given)["blocked_reason"] == (
        "a backfill moves neither alias nor traffic unless the run's parameter rollout is yes"
    )
    plan = shop.plan(**given, params={"rollout": "yes"})
    assert (plan["blocked_reason"], plan["requested"]) == (None, True)


def test_a_run_of_older_data_moves_nothing(shop):
    spec = {"schedule": DAILY}
    shop.register(plan=shop.plan(run="earlier", spec=spec, interval=(day(5), day(6))))
    old = shop.plan(spec=spec, interval=(day(4), day(5)))
    assert old["blocked_reason"] == (
        "version 1 is of later data (up to 2026-03-06 00:00Z): nothing moves unless the run's parameter rollout is yes"
    )
    assert shop.plan(spec=spec, interval=(day(5), day(6)))["blocked_reason"] is None
    assert shop.plan(spec=spec, interval=(day(6), day(7)))["blocked_reason"] is None
    # Of two runs of the same data, the one that was started first is the old one.
    again = {"spec": spec, "interval": (day(5), day(6))}
    assert shop.plan(**again, run_after=day(10, 11))["blocked_reason"] == (
        "version 1 is of a later run: nothing moves unless the run's parameter rollout is yes"
    )
    assert shop.plan(**again, run_after=day(10, 13))["blocked_reason"] is None
    # The run's own version does not hold it back when it is cleared.
    assert shop.plan(run="earlier", spec=spec, interval=(day(5), day(6)))["blocked_reason"] is None


def test_an_old_run_by_hand_that_is_cleared_moves_nothing(shop):
    shop.register(plan=shop.plan(run="earlier", run_after=day(5)))
    assert shop.plan(run_after=day(4))["blocked_reason"].startswith("version 1 is of later data")
    assert shop.plan(run_after=day(6))["blocked_reason"] is None


def test_a_model_that_is_given_a_schedule_is_not_held_back_by_its_runs_by_hand(shop):
    shop.register(plan=shop.plan(run="earlier", run_after=day(10, 11)))
    plan = shop.plan(spec={"schedule": DAILY}, run_after=day(10, 12))
    assert (plan["interval"]["end"], plan["blocked_reason"]) == ("2026-03-10T00:00:00+00:00", None)


def test_the_first_stage_starts_from_a_version(shop, tmp_path):
    (tmp_path / "weights").write_text("w")
    stored = ArtifactStore((tmp_path / "artifacts").as_uri()).put(tmp_path / "weights", model="digits")
    shop.lineage.register(make_record("one", checkpoint_digest=stored.digest))
    shop.lineage.register(make_record("two", checkpoint_digest=stored.digest, checkpoint_uri=stored.uri))
    shop.lineage.set_alias(model="digits", alias="champion", version=2)
    spec = {"train": {"base": "champion"}}
    expected = {"version": 2, "checkpoint": {"id": "fine-3", **stored.to_dict(), "stage": None, "step": None}}
    assert shop.plan(spec=spec)["base"] == expected
    # A version of before the lineage kept the place is found by its digest.
    assert shop.plan(params={"base": 1})["base"] == {**expected, "version": 1}
    assert shop.plan(params={"base": "v1"})["base"] == {**expected, "version": 1}
    assert shop.plan(spec=spec, params={"base": "none"})["base"] is None
    # The same checkpoint is the same start, whatever the version is called.
    assert shop.plan(spec=spec)["inputs"] == shop.plan(params={"base": "1"})["inputs"] != shop.plan()["inputs"]


def test_a_start_that_is_not_there_is_refused_unless_it_is_an_alias_to_come(shop):
    spec = {"train": {"base": "champion"}}
    assert shop.plan(spec=spec)["base"] is None
    shop.register()
    assert shop.plan(spec=spec)["base"] is None
    with pytest.raises(UnknownVersion, match="no version 'champion'"):
        shop.plan(params={"base": "champion"})
    with pytest.raises(UnknownVersion, match="no version '7'"):
        shop.plan(spec={"train": {"base": "7"}})
    with pytest.raises(DigestMismatch, match="the checkpoint of version 1 is gone.*Start from another version"):
        shop.plan(params={"base": "1"})


def test_the_reason_is_the_persons_else_the_events(shop):
    asset = SimpleNamespace(uri="modelway://digits/retrain")
    events = [SimpleNamespace(asset=asset, extra={"reason": "drift of 0.3"}), SimpleNamespace(asset=asset, extra={})]
    assert shop.plan(events=events)["reason"] == (
        "event of modelway://digits/retrain: drift of 0.3; event of modelway://digits/retrain"
    )
    assert shop.plan(events=events, params={"reason": "because"})["reason"] == "because"


def test_a_change_of_the_schema_is_rebuilt_without_the_base_and_its_run_is_recorded(shop, tmp_path):
    (tmp_path / "weights").write_text("w")
    stored = ArtifactStore((tmp_path / "artifacts").as_uri()).put(tmp_path / "weights", model="digits")
    shop.lineage.register(make_record("one", checkpoint_digest=stored.digest, checkpoint_uri=stored.uri))
    shop.lineage.set_alias(model="digits", alias="champion", version=1)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    request = RetrainRequest(
        model="digits", endpoint="digits", version=1, at=now, rule="schema", reason="new", rebuild=True, numbers={}
    )
    check = Check(before=MonitorState(endpoint="digits", model="digits"), at=now, request=request)
    key = shop.lineage.monitoring.save_check(check, state=lambda _: {})

    def event(**extra):
        return SimpleNamespace(asset=SimpleNamespace(uri="modelway://digits/retrain"), extra={"reason": "new", **extra})

    spec = {"train": {"base": "champion"}}
    assert shop.plan(spec=spec, events=[event(rebuild=False)])["base"]["version"] == 1
    assert shop.lineage.monitoring.requests("digits")[0].run_id is None
    rebuilt = shop.plan(run="rebuilt", spec=spec, events=[event(request=key, rebuild=True)])
    assert (rebuilt["base"], rebuilt["reason"]) == (None, "event of modelway://digits/retrain: new")
    assert shop.lineage.monitoring.requests("digits")[0].run_id == "digits/rebuilt"
    # A person who names a base gets it.
    named = shop.plan(spec=spec, events=[event(request=key, rebuild=True)], params={"base": "1"})
    assert named["base"]["version"] == 1
    assert shop.lineage.monitoring.requests("digits")[0].run_id == "digits/rebuilt"


def test_what_skipped_tasks_returned_before_the_run_was_cleared_is_dropped(shop, monkeypatch):
    from airflow.sdk.execution_time.xcom import XCom
    from modelway.operators.register import RegisterModelOperator

    shop.register(plan=shop.plan(run="earlier", spec=REUSE))
    left = {"freeze": {"uri": "an archive that failed its gates"}, "deploy": {"version": 7}}

    def delete(*, key, task_id, dag_id, run_id):
        assert (key, dag_id, run_id) == ("return_value", "digits", "now")
        del left[task_id]

    monkeypatch.setattr(XCom, "delete", delete)
    with DAG("digits", schedule=None):
        plan = PlanRunOperator(task_id="plan", code=CODE, spec=full(**REUSE))
        train, freeze = BaseOperator(task_id="train"), BaseOperator(task_id="freeze")
        needs = dict.fromkeys(("code", "training", "selected", "archive", "verified"))
        plan >> train >> freeze >> RegisterModelOperator(task_id="r", **needs) >> BaseOperator(task_id="deploy")
    ti = SimpleNamespace(xcom_push=shop.xcom_push, xcom_pull=lambda *, task_ids: left.get(task_ids))
    dag_run = SimpleNamespace(
        dag_id="digits", run_id="now", run_type=SimpleNamespace(value="manual"), run_after=day(10, 12)
    )
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        plan.run({"dag_run": dag_run, "ti": ti, "params": {}})
    assert skipped.value.tasks == ["freeze", "train"]
    assert left == {"deploy": {"version": 7}}


def test_all_tasks_up_to_registering_are_skipped_and_no_other():
    from modelway.operators.register import RegisterModelOperator

    class Nothing(BaseOperator):
        def __init__(self, *, item=None, **kwargs):
            super().__init__(**kwargs)

    needs = dict.fromkeys(("code", "training", "selected", "archive", "verified"))
    with DAG("digits", schedule=None):
        before, beside = Nothing(task_id="before"), Nothing(task_id="beside")
        plan = PlanRunOperator(task_id="plan", code={}, spec={})
        train, mapped = Nothing(task_id="train"), Nothing.partial(task_id="mapped").expand(item=[1, 1])
        register = RegisterModelOperator(task_id="register", **needs)
        deploy, other = Nothing(task_id="deploy"), PlanRunOperator(task_id="other", code={}, spec={})
        before >> plan >> train >> mapped >> register >> deploy >> other
        other >> Nothing(task_id="train_other") >> RegisterModelOperator(task_id="register_other", **needs)
        plan >> register
        plan >> Nothing(task_id="told")
        beside >> register
        alone = PlanRunOperator(task_id="alone", code={}, spec={})
        alone >> Nothing(task_id="first") >> Nothing(task_id="second")
    assert plan._training_tasks() == ["mapped", "train"]
    assert other._training_tasks() == ["train_other"]
    assert alone._training_tasks() == ["first"]
