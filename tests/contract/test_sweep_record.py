"""The candidates of a sweep in the lineage of both databases, on a version's page and in the commands."""

import json
import math
import re
from datetime import UTC, datetime

import pytest
from modelway.cli import main
from modelway.errors import ModelwayError
from modelway.lineage.records.version import CandidateRecord, FailureRecord
from modelway.lineage.store import open_lineage
from modelway.runs.messages.candidates import Sweep
from modelway.runs.record import with_candidates

from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages
from tests.sweep_samples import CANDIDATES, sweep_record


def test_all_candidates_are_read_back_in_their_order_and_the_run_costs_what_all_of_them_do(url: str) -> None:
    store = open_lineage(url)
    store.register(sweep_record())
    run = store.version("digits", 1).run
    assert [each.name for each in run.candidates] == ["c01", "c02", "c03", "c04"]
    one, two, three, four = run.candidates
    assert one == CandidateRecord(
        **{"name": "c01", "params": {"rate": 0.1, "name": "a<b>"}, "state": "trained", "stage": "full"},
        **{"checkpoint": "c01-full-000002", "metrics": {"loss": 0.5}, "seconds": 10.0, "cpu_seconds": 8.0},
    )
    assert math.isnan(three.metrics["loss"] or 0.0)
    assert three.reason == "loss is nan"
    assert (four.checkpoint, four.metrics, four.seconds) == (None, {}, None)
    assert (run.seconds, run.gpu_seconds, two.gpu_seconds) == (30.0, 40.0, 40.0)
    store.register(make_record("alone"))
    assert store.version("digits", 2).run.candidates == ()


def test_why_a_candidate_failed_is_the_cause_of_its_last_attempt() -> None:
    def failed(key: str, cause: str, *, stage: str = "short", attempt: int = 1) -> FailureRecord:
        about = {"model": "digits", "dag_id": "digits", "run_id": "r", "at": datetime(2026, 3, 1, tzinfo=UTC)}
        return FailureRecord(**about, key=key, cause=cause, stage=stage, attempt=attempt)

    failures = [
        failed("train.short/c04-0123456789", "killed"),
        failed("train.short/c04-0123456789", "ValueError: spoilt", attempt=2),
        failed("train.short/c02-0123456789", "killed"),
        failed("train.evaluate_short/c04-short-000001+c05-short-000001", "no", stage="evaluate c04-short-000001"),
    ]
    sweep = Sweep(method="halving", selected="c02", candidates=CANDIDATES)
    run = with_candidates(make_record("r").run, sweep, failures=failures)
    assert [each.reason for each in run.candidates] == ["", "", "loss is nan", "ValueError: spoilt"]


def test_the_page_shows_every_candidate_in_a_table_and_as_a_line(url: str) -> None:
    open_lineage(url).register(sweep_record())
    client = MountedPages().client(url, headers={"accept": "text/html", "reader": "digits"})
    page = client.get("/modelway/models/digits/versions/1").text
    part = page[page.index('<section id="candidates">') :]
    part = part[: part.index("</section>")]
    rows = re.findall(r"<tr[^>]*>\s*<td><code>(c\d+)</code></td><td><span[^>]*>(\w+)</span>", part)
    assert rows == [("c02", "selected"), ("c01", "trained"), ("c03", "stopped"), ("c04", "failed")]
    assert part.count("<polyline") >= 3, "a line for each candidate that has a metric"
    assert "a&lt;b&gt;" in part
    assert "a<b>" not in part
    assert "loss is nan" in part
    assert 'href="#candidates"' in page


def test_the_commands_print_the_candidates(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_lineage(url)
    store.register(sweep_record())
    store.register(make_record("alone"))
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", url)
    assert main(["sweep", "digits", "1"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["CANDIDATE", "STATE", "STAGE", "rate", "name", "loss", "CPU", "SECONDS"]
    assert [line.split()[:6] for line in lines] == [
        ["c02", "selected", "full", "0.25", "x", "0.25"],
        ["c01", "trained", "full", "0.1", "a<b>", "0.5"],
        ["c03", "stopped", "short", "9", "y", "nan"],
        ["c04", "failed", "short", "-1", "z", "-"],
    ]
    assert main(["sweep", "digits@1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in printed["candidates"]] == ["c01", "c02", "c03", "c04"]
    assert main(["show", "digits", "1"]) == 0
    assert re.search(r"^c03 +stopped +short .*loss is nan$", capsys.readouterr().out, flags=re.MULTILINE)
    assert main(["sweep", "digits", "2"]) == 1
    assert "digits v2 is not of a sweep: its run trained one candidate. Add the section search" in (
        capsys.readouterr().err
    )


def test_a_version_of_a_sweep_is_run_again_with_its_candidate_alone() -> None:
    from modelway.cli.reproduction.preparation import search_of_selected
    from modelway.spec.search import SearchSection

    candidates = sweep_record().run.candidates
    stop = {"metric": "loss", "above": 3.0, "below": None, "from_step": 2}
    made = search_of_selected({"search": {"method": "random", "stop": stop}}, candidates)
    search = SearchSection.model_validate(made)
    assert {name: each.values for name, each in search.params.items()} == {"rate": (0.25,), "name": ("x",)}
    assert search.size == 1
    assert search.stop is not None
    assert search.stop.above == 3.0
    with pytest.raises(ModelwayError, match="the record names no selected candidate"):
        search_of_selected({}, candidates[:1])
