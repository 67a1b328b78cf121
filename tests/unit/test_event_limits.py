"""``events.jsonl`` is read as what anybody may have written: what is over a limit is left out, and the rest counts."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.job import event_limits
from modelway.job.events import LeftOut, append_event, parse_events, read_events, recorded_datasets
from modelway.operators.train import TrainModelOperator
from modelway.runs.messages.checkpoints import Checkpoint, StageReport
from modelway.runs.messages.evaluation import Selection
from modelway.runs.reported import store_events
from modelway.runs.reported_records import figure_records

EVENTS = Artifact(uri="file:///events.jsonl", digest="sha256:e", size=1)
CHECKPOINT = Checkpoint(id="train-000001", uri="file:///c", digest="sha256:c", size=1, stage="train", step=1)
METRIC = '{"kind": "metric", "name": "loss", "step": 1, "value": 0.5}'


def matrix(across: int) -> dict[str, Any]:
    names = [str(number) for number in range(across)]
    return {"rows": names, "columns": names, "values": [[0.25] * across] * across}


HOSTILE = {
    "an int beyond 64 bits": '{"kind": "metric", "name": "a", "step": 1, "value": 18446744073709551616}',
    "an int of many digits": f'{{"kind": "metric", "name": "a", "step": 1, "value": {"9" * 5000}}}',
    "a number beyond all floats": '{"kind": "metric", "name": "a", "step": 1, "value": 1e999}',
    "NaN": '{"kind": "metric", "name": "a", "step": 1, "value": NaN}',
    "a step that is a text": '{"kind": "metric", "name": "a", "step": "1", "value": 1}',
    "a value that is a list": '{"kind": "metric", "name": "a", "step": 1, "value": [1]}',
    "a metric without a name": '{"kind": "metric", "step": 1, "value": 1}',
    "a long name": json.dumps({"kind": "metric", "name": "x" * 501, "step": 1, "value": 1}),
    "a long key": json.dumps({"kind": "other", "x" * 501: 1}),
    "a long text": json.dumps({"kind": "note", "text": "x" * 70_000}),
    "a kind that is a list": '{"kind": ["metric"]}',
    "depth": '{"kind": "other", "a": ' + "[" * 20 + "]" * 20 + "}",
    "great depth": '{"kind": "other", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "many values": json.dumps({"kind": "other", "a": [0] * 200_001}),
    "a large matrix": json.dumps({"kind": "figure", "name": "m", "chart": "matrix", "data": matrix(400)}),
    "a chart of no kind": json.dumps({"kind": "figure", "name": "m", "chart": "pie", "data": {}}),
    "a chart without data": '{"kind": "figure", "name": "m", "chart": "line"}',
    "a chart with much beside it": json.dumps(
        {"kind": "figure", "name": "m", "chart": "line", "data": {"x": [1], "y": [1], "more": ["y" * 60_000] * 10}}
    ),
    "an importance that is none": '{"kind": "importance", "values": [3]}',
    "an importance without a feature": '{"kind": "importance", "values": [{"importance": 1}]}',
    "an evaluation of a list": '{"kind": "evaluation", "input": [], "metrics": {}, "seconds": 1}',
    "metrics that are no numbers": '{"kind": "evaluation", "input": "a", "metrics": {"a": "b"}, "seconds": 1}',
    "an evaluation without seconds": '{"kind": "evaluation", "input": "a", "metrics": {"a": 1}}',
    "a checkpoint elsewhere": '{"kind": "checkpoint", "id": "a", "step": 1, "path": "/etc/passwd"}',
    "a checkpoint above": '{"kind": "checkpoint_removed", "id": "a", "path": "output/../../x"}',
    "a data set that is a list": '{"kind": "dataset", "name": ["a"]}',
    "rows that are none": '{"kind": "dataset", "name": "a", "rows": -1}',
    "packages that are no texts": '{"kind": "environment", "packages": {"a": [1]}}',
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_an_event_over_a_limit_is_left_out_with_a_note_and_the_rest_counts(line: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(f"{METRIC}\n{line}\n{METRIC}\n")
    left_out = LeftOut()
    assert [event["name"] for event in read_events(tmp_path, left_out=left_out)] == ["loss", "loss"]
    (note,) = left_out.notes()
    assert note.startswith("1 event of kind ")


def test_a_line_that_is_too_long_is_passed_over_without_being_held(tmp_path: Path) -> None:
    with (tmp_path / "events.jsonl").open("w") as file:
        file.write('{"kind": "note", "text": "' + "x" * (event_limits.LONGEST_LINE + 1) + '"}\n' + METRIC + "\n")
        file.write("{" * (event_limits.LONGEST_LINE + 5))
    assert [event["kind"] for event in read_events(tmp_path)] == ["metric"]


def test_of_each_kind_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(event_limits.MOST, "metric", 3)
    checkpoint = '{"kind": "checkpoint", "id": "a", "step": 1, "path": "output/a", "sha256": "", "size": 1}'
    (tmp_path / "events.jsonl").write_text(f"{METRIC}\n" * 5 + f"{checkpoint}\n")
    left_out = LeftOut()
    assert [event["kind"] for event in read_events(tmp_path, left_out=left_out)] == ["metric"] * 3 + ["checkpoint"]
    assert left_out.notes()[0].startswith("2 events of kind 'metric' left out: there are more than 3")


def test_of_charts_so_many_are_kept_for_each_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(event_limits.MOST, "figure", 2)
    figure = {"kind": "figure", "name": "c", "chart": "line", "data": {"x": [1], "y": [1]}}
    lines = [json.dumps(figure | {"input": name}) for name in ("a", "b") for _ in range(3)]
    assert [event["input"] for event in parse_events("\n".join(lines).encode())] == ["a", "a", "b", "b"]


def test_a_job_cannot_fill_the_notes_with_kinds_of_its_own(tmp_path: Path) -> None:
    lines = [json.dumps({"kind": f"k{number}", "a": "x" * 70_000}) for number in range(100)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    left_out = LeftOut()
    assert read_events(tmp_path, left_out=left_out) == []
    assert len(left_out.notes()) <= 51


def test_the_points_of_a_curve_are_thinned_when_they_are_read() -> None:
    points = list(range(5000))
    line = json.dumps({"kind": "figure", "name": "c", "chart": "line", "data": {"x": points, "y": points}})
    (event,) = parse_events(line.encode())
    (curve,) = event["data"]["curves"]
    assert (len(curve["x"]), curve["x"][-1]) == (200, 4999)


@pytest.mark.parametrize("how", ["link", "fifo", "folder"])
def test_events_that_lie_elsewhere_are_not_read_and_not_written(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    outside = tmp_path / "outside.jsonl"
    outside.write_text(METRIC + "\n")
    if how == "link":
        (folder / "events.jsonl").symlink_to(outside)
    elif how == "fifo":
        os.mkfifo(folder / "events.jsonl")
    else:
        (folder / "events.jsonl").mkdir()
    left_out = LeftOut()
    assert read_events(folder, left_out=left_out) == []
    assert "events.jsonl" in left_out.notes()[0]
    with pytest.raises(OSError, match=".+"):
        append_event(folder, "note", text="x")
    assert outside.read_text() == METRIC + "\n"


def test_what_is_stored_says_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "events.jsonl").write_text(f"{METRIC}\n{HOSTILE['a large matrix']}\n")
    said: list[str] = []
    stored = store_events(
        ArtifactStore(f"file://{tmp_path}/store"), tmp_path / "job", model="m", warn=lambda *a: said.append(a[0])
    )
    assert stored is not None
    events = parse_events(Path(stored.uri.removeprefix("file://")).read_bytes())
    assert [event["kind"] for event in events] == ["metric", "note"]
    assert "a matrix has at most 50 rows and columns" in events[1]["text"]
    assert said == [f"events.jsonl: {events[1]['text']}"]
    assert store_events(ArtifactStore(f"file://{tmp_path}/store"), tmp_path, model="m", warn=print) is None


def test_more_charts_than_a_run_may_have_are_cut_with_a_line() -> None:
    def drawn(count: int) -> tuple[tuple[Any, ...], list[str]]:
        said: list[str] = []
        events = [{"kind": "figure", "name": f"c{n}", "chart": "line", "data": {}} for n in range(count)]
        records = figure_records(
            training=[StageReport(stage="train", events=EVENTS)],
            selected=Selection(checkpoint=CHECKPOINT, metrics={}),
            events=lambda artifact: events if artifact else [],
            warn=said.append,
        )
        return records, said

    assert (len(drawn(500)[0]), drawn(500)[1]) == (500, [])
    records, said = drawn(502)
    assert len(records) == 500
    assert said == ["the run drew 502 charts, 500 of a run are stored: 'c500' of train and those after it are left out"]


def test_of_checkpoints_that_go_on_a_note_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = TrainModelOperator(task_id="train", code={"model": "m", "module": "m.py", "uri": "", "digest": ""})
    monkeypatch.setattr(type(operator), "iter_mapped_dependants", lambda self: iter([self]))
    made = [replace(CHECKPOINT, id=f"train-{number:06}") for number in range(1, 2001)]
    kept, notes = operator._mappable(made)
    assert (len(kept), kept[-1]) == (1024, made[-1])
    assert operator._mappable(made[:1024]) == (made[:1024], [])
    (tmp_path / "job").mkdir()
    stored = store_events(
        ArtifactStore(f"file://{tmp_path}/store"), tmp_path / "job", model="m", warn=print, notes=notes
    )
    assert stored is not None
    (event,) = parse_events(Path(stored.uri.removeprefix("file://")).read_bytes())
    assert event["kind"] == "note"
    assert event["text"].startswith(
        "of 2000 checkpoints 1024 are passed on, evenly spaced and the last one: Airflow maps"
    )


def test_an_event_that_would_not_be_read_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an event of kind 'note' has"):
        append_event(tmp_path, "note", text="x" * event_limits.LONGEST_LINE)
    assert not (tmp_path / "events.jsonl").exists()


def test_data_sets_of_an_odd_form_are_recorded_once() -> None:
    line = '{"kind": "dataset", "name": "a", "uri": null, "schema": {"x": "int"}}'
    assert len(recorded_datasets(parse_events(f"{line}\n{line}\n".encode()))) == 1
