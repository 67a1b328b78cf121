"""docs/failures.md says what the library does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from modelway.cli import main
from modelway.failures import FailureKind, RetryRule, rule_for
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.store import open_lineage
from modelway.spec.load import load_files

from tests.lineage_samples import make_record

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "failures.md").read_text()


def test_the_table_has_each_kind_with_its_rule_and_its_advice():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:3] == "| `"]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (f"`{kind.value}`", kind.rule.value, kind.advice) for kind in FailureKind
    ]
    assert all(row[1] for row in rows)


def test_the_example_of_rules_is_a_good_spec(tmp_path):
    (text,) = [block.split("```")[0] for block in PAGE.split("```yaml\n")[1:]]
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "tiny.py").write_text("def train(job): ...\ndef evaluate(job, c): ...\ndef export(job, c): ...\n")
    (folder / "model.yaml").write_text(f"model: tiny\n{text}")
    loaded = load_files([folder / "model.yaml"])
    assert not loaded.problems
    assert dict(loaded.specs["tiny"].retry_rules) == yaml.safe_load(text)["retry_rules"]


@pytest.mark.parametrize("rules", [{}, *({"out_of_memory": rule, "node_out_of_memory": rule} for rule in RetryRule)])
@pytest.mark.parametrize("kind", [FailureKind.OUT_OF_MEMORY, FailureKind.NODE_OUT_OF_MEMORY])
def test_out_of_memory_is_never_tried_again_unchanged(kind, rules):
    assert rule_for(kind, rules) is not RetryRule.RETRY


def test_the_shown_account_is_what_the_command_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    run = {"model": "digits", "dag_id": "digits", "run_id": "manual__2026-03-01T12:00", "attempt": 1}
    store.record_failure(
        FailureRecord(
            **run,
            key="train.fine",
            kind="out_of_memory",
            cause="out of memory: 2.1 GiB, the limit is 2 GiB",
            advice="The next attempt, if one is left, gets 4Gi of memory; resources.memory can begin with it",
            rule="more-memory",
            job="mw-digits-train-fine-1",
            last_lines=("step 100 loss 0.31", "Killed"),
            tried_again=True,
            at=datetime(2026, 3, 1, 12, 3, tzinfo=UTC),
        )
    )
    store.record_failure(
        FailureRecord(
            **run,
            key="evaluate.checkpoint/fine-2",
            kind="bad_exit",
            cause="ValueError: no digits",
            advice=FailureKind.BAD_EXIT.advice,
            job="mw-digits-evaluate-checkpoin-1",
            at=datetime(2026, 3, 1, 12, 9, tzinfo=UTC),
        )
    )
    store.record_resolved(dag_id="digits", run_id=run["run_id"], key="train.fine", attempt=2)
    store.register(make_record(run["run_id"], evaluations=()))
    assert main(["explain", "digits"]) == 0
    shown = PAGE.split("$ modelway explain digits\n")[1].split("```")[0]
    assert capsys.readouterr().out == shown
