"""docs/benchmarks.md is made from bench/results.json, and a benchmark above its target says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = REPOSITORY / "bench"
ROW = {"what": "parse", "contestant": "modelway", "models": 100}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run the benchmark of parsing, which prints one ratio, by run_all, its results and page in a folder."""
    import run_all

    monkeypatch.setattr(run_all, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run_all, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(run_all, "commit", lambda: "abc1234")
    monkeypatch.setattr(run_all, "read_results", lambda: json.loads((tmp_path / "results.json").read_text() or "{}"))
    (tmp_path / "results.json").write_text("{}")

    def run(document, *, status=0):
        script = tmp_path / "run.py"
        script.write_text(f"import sys\nprint({json.dumps(document)!r})\nsys.exit({status})\n")
        monkeypatch.setattr(run_all, "COMMANDS", {"parse": (str(script),)})
        monkeypatch.setattr(sys, "argv", ["run_all.py"])
        return run_all.main()

    return run


def test_the_page_is_that_of_the_results():
    from page import PAGE, page_of, read_results

    assert PAGE.read_text() == page_of(read_results()), "run python bench/page.py"


def test_a_figure_within_its_target_is_written_with_its_commit(bench, tmp_path, capsys):
    assert bench({"ratios": [ROW | {"ratio": 1.25}]}) == 0
    written = json.loads((tmp_path / "results.json").read_text())["parse"]
    assert (written["commit"], written["figures"][0]["value"]) == ("abc1234", 1.25)
    assert "commit abc1234" in (tmp_path / "benchmarks.md").read_text()
    assert "missed" not in capsys.readouterr().out


def test_a_figure_above_its_target_says_so_with_the_last_one_and_its_commit(bench, tmp_path, capsys):
    bench({"ratios": [ROW | {"ratio": 1.25}]})
    assert bench({"ratios": [ROW | {"ratio": 2.5}]}, status=1) == 1
    line = "missed: parse: parse, 100 models, modelway: 2.5 x a DAG file written by hand, target 1.5; 1.25 at commit "
    assert f"{line}abc1234\n" in capsys.readouterr().out
    assert "| 1.5, **missed** |" in (tmp_path / "benchmarks.md").read_text()


def test_a_benchmark_that_fails_says_so_and_leaves_its_last_figures(bench, tmp_path, capsys):
    bench({"ratios": [ROW | {"ratio": 1.25}]})
    assert bench({}, status=3) == 1
    assert "it failed with exit status 3; its figures stay those of commit abc1234" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["parse"]["figures"][0]["value"] == 1.25


def test_one_that_is_skipped_says_why(bench, capsys):
    assert bench({"skipped": "there is no GPU"}) == 0
    assert "parse: there is no GPU; it has no figures yet" in capsys.readouterr().out


def test_make_bench_runs_all_of_them():
    done = subprocess.run(["make", "--dry-run", "bench"], cwd=REPOSITORY, capture_output=True, text=True)
    assert "bench/run_all.py" in done.stdout
