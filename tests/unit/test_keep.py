"""What a run leaves besides its version: kept or removed by the rule ``keep`` of its spec, and never what is needed."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.local.backend import LocalBackend
from modelway.cli.gc import discard_old_jobs
from modelway.errors import NotWritable
from modelway.lineage.records.kept import KeepRule, Unselected
from modelway.lineage.store import Lineage
from modelway.names import slug
from modelway.operators.context import run_key
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.runs.keep import remove_unselected
from modelway.runs.messages.evaluation import Selection
from modelway.spec.model import ModelSpec

from tests.lineage_samples import make_record
from tests.unit.test_planned_run import (  # noqa: F401 - two fixtures
    ARCHIVE,
    FIRST,
    SELECTED,
    context,
    home,
    lineage,
    planned,
)

NOW = datetime(2026, 3, 10, tzinfo=UTC)
LOSERS = [
    Unselected(digest=f"d{step}", step=step, size=10, stored=NOW - timedelta(days=10 - step)) for step in range(1, 6)
]


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ({}, set()),
        ({"keep": {"checkpoints": 2, "time": None, "size": None}}, {"d5", "d4"}),
        ({"keep": {"time": "6d1s"}}, {"d5", "d4"}),
        ({"keep": {"time": "30d", "size": "25B"}}, {"d5", "d4"}),
        ({"keep": {"checkpoints": 1, "time": "6d1s"}}, {"d5", "d4"}),
        ({"keep": {"checkpoints": 9, "size": "5B"}}, set()),
        ({"keep": {"checkpoints": 9}}, {"d1", "d2", "d3", "d4", "d5"}),
    ],
)
def test_checkpoints_stay_by_count_time_and_bytes(section: dict[str, Any], kept: set[str]) -> None:
    assert KeepRule.of(section).kept(LOSERS, now=NOW) == kept


def test_the_rule_of_a_spec_comes_back_from_its_plain_data() -> None:
    keep = {"checkpoints": 3, "time": "7d", "size": "2Gi"}
    spec = ModelSpec.model_validate({"model": "digits", "keep": keep})
    assert KeepRule.of(spec.to_dict()) == KeepRule(checkpoints=3, seconds=7 * 86400, most_bytes=2 << 30)
    assert KeepRule.of(ModelSpec.model_validate({"model": "digits"}).to_dict()) == KeepRule()


class Run:
    """A run whose training stored two checkpoints, with the folder of its job on this machine."""

    def __init__(self, home: Path, *, others: int = 1) -> None:  # noqa: F811
        self.home, self.store = home, ArtifactStore((home / "artifacts").as_uri())
        self.context = context()
        self.context["ti"].dag_id = "digits"
        self.context["ti"].get_dr_count = lambda **_: others
        self.lost, self.chosen = self.put("lost"), self.put("chosen")
        self.key = run_key(self.context)
        self.folder = home / "jobs" / "digits" / slug(self.key) / "train" / "g0"
        (self.folder / "try-1").mkdir(parents=True)
        (self.folder / "try-1" / "exit-0.json").write_text(json.dumps({"returncode": 0, "seconds": 1.0}))
        (self.folder / "try-1" / "log-0.txt").write_text("trained\n")
        (self.folder / "job.json").write_text(json.dumps({"model": "digits"}))
        for name in ("code", "inputs", "output"):
            (self.folder / name).mkdir()
            (self.folder / name / "file").write_text("large")

    def put(self, text: str) -> Artifact:
        (self.home / "source").write_text(text)
        return self.store.put(self.home / "source", model="digits")

    def register(self, spec: dict[str, Any]) -> None:
        seen = [
            {"checkpoint": f"c{step}", "step": step, "digest": each.digest, "metrics": {"loss": 1.0}}
            for step, each in enumerate((self.lost, self.chosen), start=1)
        ]
        selected = {
            "checkpoint": {**FIRST, **self.chosen.to_dict()},
            **{"metrics": {"loss": 0.5}, "rule": "least loss", "evaluations": seen},
        }
        training = [{"stage": "fine", "seed": 0, "backend": "local"}]
        operator = RegisterModelOperator(
            task_id="r", code=planned(), archive=ARCHIVE, training=training, selected=selected, verified={}, spec=spec
        )
        operator.run(self.context)

    def there(self, artifact: Artifact) -> bool:
        return self.store.find(artifact.digest, model="digits") is not None

    @property
    def parts(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def test_a_registered_run_keeps_the_selected_checkpoint_and_the_logs(home: Path, lineage: Lineage) -> None:  # noqa: F811
    run = Run(home)
    run.register({"keep": {}})
    assert (run.there(run.lost), run.there(run.chosen)) == (False, True)
    assert run.parts == {"try-1", "job.json"}
    assert (run.folder / "try-1" / "log-0.txt").read_text() == "trained\n"
    removed = [event for event in lineage.version("digits", 1).events if event.kind == "files-removed"]
    assert [event.detail for event in removed] == [{"files": 1, "bytes": 4, "keep": 0, "keep_seconds": 0}]
    # The task may be run again.
    run.register({"keep": {}})
    assert run.there(run.chosen)


def test_of_a_sweep_stays_what_the_stages_of_the_selected_candidate_started_from(
    home: Path,  # noqa: F811
    lineage: Lineage,  # noqa: F811
) -> None:
    run, stages = Run(home), [f"{name}-{stage}" for stage in ("short", "full") for name in ("c01", "c02", "c03")]
    stored = {name: run.put(name) for name in stages}
    lineage.register(make_record("r", model="digits"))
    seen = [
        {"checkpoint": f"{name}-1", "stage": name[4:], "step": 1, "digest": each.digest, "metrics": {"loss": 1.0}}
        for name, each in stored.items()
    ]
    chosen = {"id": "c02-full-1", "stage": "full", "candidate": "c02", **stored["c02-full"].to_dict()}
    selected = Selection.from_xcom({"checkpoint": chosen, "metrics": {"loss": 1.0}, "evaluations": seen})
    remove_unselected(
        run.store, lineage, version=("digits", 1), selected=selected, rule=KeepRule(), actor="mia", run_id="r"
    )
    assert [name for name, each in stored.items() if run.there(each)] == ["c02-short", "c02-full"]


def test_what_the_rule_keeps_stays(home: Path, lineage: Lineage) -> None:  # noqa: F811
    run = Run(home)
    run.register({"keep": {"checkpoints": 1}})
    assert run.there(run.lost)
    assert run.parts == {"try-1", "job.json"}
    run.register({"keep": {"time": "1d"}})
    assert run.there(run.lost)


def test_job_folders_stay_as_long_as_the_rule_says(home: Path, lineage: Lineage) -> None:  # noqa: F811
    run = Run(home)
    run.register({"keep": {"time": "1d"}})
    assert run.parts >= {"code", "inputs", "output"}
    lineage.register(make_record("newest", model="digits"))
    assert discard_old_jobs(lineage, home, timedelta(days=1)) == 0
    assert run.parts >= {"code", "inputs", "output"}
    assert discard_old_jobs(lineage, home, timedelta(seconds=-5)) > 0
    assert run.parts == {"try-1", "job.json"}


def test_garbage_collection_goes_where_the_spec_has_the_storage_of_the_jobs(
    home: Path,  # noqa: F811
    lineage: Lineage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    requested: list[dict[str, Any]] = []

    class Elsewhere:
        def discard(self, **words: Any) -> int:
            raise AssertionError("this is of a run's end")

        def discard_old(self, **words: Any) -> int:
            requested.append(words)
            if words["model"] == "unseen":
                raise NotWritable("the storage of the jobs is not seen here", where="/jobs")
            return 7

    monkeypatch.setattr("modelway.hooks.backend.backend_from_airflow", lambda name, home: Elsewhere())
    spec = {"train": {"backend": "kubernetes"}, "storage": {"path": "/jobs"}, "keep": {"time": "3d"}}
    for name, its in {"there": spec, "unseen": spec, "here": {"storage": {"path": "/jobs"}}}.items():
        record = make_record(name, model=name)
        lineage.register(replace(record, run=replace(record.run, spec=its)))
    assert discard_old_jobs(lineage, home, timedelta(days=1), dry_run=True) == 7
    assert [(each["model"], each["storage"], each["dry_run"]) for each in requested] == [
        ("there", {"path": "/jobs"}, True),
        ("unseen", {"path": "/jobs"}, True),
    ]
    assert all(datetime.now(UTC) - each["before"] >= timedelta(days=3) for each in requested)
    assert "the folders of jobs of unseen stay: /jobs: the storage of the jobs is not" in capsys.readouterr().err


def test_nothing_is_removed_that_something_else_needs(home: Path, lineage: Lineage) -> None:  # noqa: F811
    run = Run(home)
    lineage.register(make_record("other", model="other", checkpoint_digest=run.lost.digest))
    run.register({"keep": {}})
    assert run.there(run.lost)


def test_while_another_run_is_running_checkpoints_are_left_to_garbage_collection(
    home: Path,  # noqa: F811
    lineage: Lineage,  # noqa: F811
) -> None:
    run = Run(home, others=2)
    run.register({"keep": {}})
    assert run.there(run.lost)
    assert run.parts == {"try-1", "job.json"}


def test_a_run_without_a_spec_of_its_own_loses_nothing(home: Path, lineage: Lineage) -> None:  # noqa: F811
    run = Run(home)
    run.register({})
    assert run.there(run.lost)
    assert run.parts >= {"code", "inputs", "output"}


def test_a_job_that_runs_keeps_its_folder(home: Path) -> None:  # noqa: F811
    run = Run(home)
    (run.folder / "try-2").mkdir()
    assert LocalBackend(home=home).discard(model="digits", run=run.key) == 0
    assert run.parts >= {"code", "inputs", "output"}


def test_a_job_that_began_long_ago_and_wrote_of_late_keeps_its_output(home: Path) -> None:  # noqa: F811
    run, now = Run(home), datetime.now(UTC)
    began = (now - timedelta(days=2)).timestamp()
    os.utime(run.folder, (began, began))
    backend = LocalBackend(home=home)
    assert backend.discard_old(model="digits", before=now - timedelta(days=1)) == 0
    assert run.parts >= {"code", "inputs", "output"}
    # One that runs writes its log and renews its heartbeat, which its folder does not show.
    log = run.folder / "try-1" / "log-0.txt"
    for path in (log.parent, *log.parent.iterdir()):
        os.utime(path, (began, began))
    os.utime(log)
    assert backend.discard_old(model="digits", before=now - timedelta(days=1)) == 0
    os.utime(log, (began, began))
    assert backend.discard_old(model="digits", before=now - timedelta(days=1)) > 0
    assert run.parts == {"try-1", "job.json"}


def _killed(archive: Path) -> None:
    archive.write_bytes(b"large" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_worker_left_that_was_killed_while_it_wrote_an_archive_is_removed(
    home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, job = Run(home), SimpleNamespace(model="digits")
    freeze = FreezeModelOperator(task_id="f", code=planned(), selected={**SELECTED, "checkpoint": FIRST})
    monkeypatch.setattr("modelway.operators.freeze.archive_frozen", lambda *_, to, **__: _killed(to))
    work = partial(freeze.collect, context(), job=job, folder=run.folder, status=None)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    (left,) = run.folder.glob("*/archive.zip")
    assert (child.exitcode, left.stat().st_size) == (-signal.SIGKILL, 5000)
    LocalBackend(home=home).discard(model="digits", run=run.key)
    assert run.parts == {"try-1", "job.json"}


def test_a_link_in_the_place_of_a_folder_is_removed_and_not_followed(home: Path) -> None:  # noqa: F811
    run = Run(home)
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "precious").write_text("precious")
    (run.folder / "output" / "file").unlink()
    (run.folder / "output").rmdir()
    (run.folder / "output").symlink_to(home / "elsewhere")
    (run.folder / "inputs" / "link").symlink_to(home / "elsewhere")
    LocalBackend(home=home).discard(model="digits", run=run.key)
    assert run.parts == {"try-1", "job.json"}
    assert (home / "elsewhere" / "precious").read_text() == "precious"
