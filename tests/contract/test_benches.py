"""Each benchmark, small: its contestants agree, and it has the figures that count. Its speeds say nothing here.

bench/serving/abuse.py is tried in test_server_limits.py.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes_cluster import require_cluster

BENCH = Path(__file__).resolve().parents[2] / "bench"


def check_bytes(document: dict[str, Any]) -> None:
    """Two checkpoints and one frozen model are stored: the selected one, the archive, and the image's layer stay."""
    assert set(document["ratios"]) == {"on_disk", "written", "wall", "cpu", "memory"}
    places = sorted(name.partition("/")[0] for name, _ in document["files"])
    assert places == ["artifacts", "artifacts", "images"]
    assert document["written_bytes"] > 5 * 2e6


def check_cost(document: dict[str, Any]) -> None:
    assert set(document) == {"json", "binary"}


def check_evaluate(document: dict[str, Any]) -> None:
    (result,) = document["results"]
    assert set(result["seconds"]) == {"loop", "jobs", "ideal"}


def check_fleet(document: dict[str, Any]) -> None:
    """Both kinds of DAGs were taken to their end: as many tasks, the mapped ones included; each run has a version."""
    ours, empty = document["ours"], document["empty"]
    assert ours["tasks"] == empty["tasks"] == 2 * 2 * ours["tasks_per_run"]
    assert ours["tasks_per_run"] >= 14
    assert ours["rows_per_run"] >= ours["tasks_per_run"]
    assert document["lineage"]["rows_per_run"] > 40
    assert document["lineage"]["small"]["runs"] == ours["runs"] == 4


def check_image(document: dict[str, Any]) -> None:
    """The image is the same each time, and nothing is sent where nothing changed."""
    ours = next(each for each in document["results"] if each["name"] == "modelway")
    assert ours["again"]["output"] == ours["first"]["output"] != ours["changed"]["output"] == ours["known"]["output"]
    assert ours["again"]["sent_mb"] == 0
    assert ours["changed"]["sent_mb"] < 0.25
    assert {each["name"] for each in document["results"]} >= {"modelway", "append"}


def check_jobs(document: dict[str, Any]) -> None:
    """Followed jobs cost no requests of their own."""
    assert document["fired"] == {"succeeded": 5}
    # A look and a watch for jobs and for pods, and once more where a watch began anew, however many jobs there are.
    assert 0 < document["requests"] + sum(document["requests_at_start"].values()) <= 8
    assert document["log_lines"] >= 5


def check_lineage(document: dict[str, Any]) -> None:
    """It compares with the floor and with a larger database."""
    assert set(document["register"]["register"]["p50_ms"]) == {"modelway", "floor"}
    assert set(document["read"]) == {"latest", "by_alias", "full_record", "compare", "who_has", "models"}
    assert set(document["growth"]) == {*document["read"], "register"}
    assert all(row["ratio"] > 0 for row in document["growth"].values())


def check_loop(document: dict[str, Any]) -> None:
    assert set(document["seconds"]) == {"help now", "lint one now", "lint many now"}


def check_pages(document: dict[str, Any]) -> None:
    """The API and plain SQL agree, and every page answers."""
    assert set(document["p95_ms"]) == {"versions", "models"}
    assert all(set(row) == {"modelway", "sql"} for row in document["p95_ms"].values())
    assert len(document["views_ms"]) >= 7
    assert all(row["bytes"] > 500 for row in document["views_ms"].values())


def check_parse(document: dict[str, Any]) -> None:
    assert {(row["what"], row["contestant"]) for row in document["seconds"]} >= {
        (what, who) for what in ("parse", "serialise") for who in ("floor", "modelway")
    }
    assert document["missed"] == []


def check_counting(document: dict[str, Any]) -> None:
    assert set(document["shares"]) == {"1", "10", "100", "1000"}
    assert all(value > 0 for value in (*document["request_us"].values(), *document["counting_us"].values()))


def check_monitor(document: dict[str, Any]) -> None:
    """What changes at once is found within a day and retrained once, and nothing else is."""
    assert {name: row["retrainings"] for name, row in document["results"].items()} == {
        "no change": [0],
        "sudden drift": [1],
        "broken upstream column": [1],
    }
    assert all(0 < row["days_to_find"][0] <= 1 for row in document["results"].values() if row["at_once"])
    assert document["missed"] == []


def check_rollout(document: dict[str, Any]) -> None:
    """With few runs the targets have room for chance: 1 in 1,000 when the true share is that of the target."""
    runs, results = document["runs"], document["results"]
    most = next(k for k in range(runs) if sum(_binomial(runs, j, 0.05) for j in range(k + 1)) > 0.999)
    for name, row in results.items():
        found = row["judges"]["modelway"]
        if row["good"]:
            assert found["rolled_back"] * runs <= most, name
        if row["must_be_found"]:
            assert (1 - found["within_the_hour"]) * runs <= most, name
        if row["never_promoted"]:
            assert found["promoted"] == 0, name
    # It can fail: the peers do.
    assert results["good, 5 % base errors"]["judges"]["thresholds (Flagger)"]["rolled_back"] == 1
    assert results["good"]["judges"]["z-test"]["rolled_back"] * runs > most
    assert results["errors doubled"]["judges"]["thresholds (Argo)"]["promoted"] == 1
    assert results["no traffic"]["judges"]["z-test"]["promoted"] == 1


def _binomial(runs: int, count: int, share: float) -> float:
    return math.comb(runs, count) * share**count * (1 - share) ** (runs - count)


def check_route(document: dict[str, Any]) -> None:
    """Every answer and every split was checked on the way, and no request failed while weights changed."""
    assert set(document["contestants"]) >= {"modelway", "haproxy", "haproxy, reusing", "python"}
    assert all(row["4"]["per_second"] > 0 for row in document["contestants"].values())
    effect = document["weight_change_ms"]
    assert (effect["changes"], effect["failed"]) == (5, 0)


def check_search(document: dict[str, Any]) -> None:
    """Half of the candidates train the second stage, the grid's best among them."""
    grid, halving = document["results"]["grid"], document["results"]["halving"]
    assert [stage["candidates"] for stage in grid["stages"]] == [4, 4]
    assert [stage["candidates"] for stage in halving["stages"]] == [4, 2]
    assert halving["best"] == grid["best"]
    assert halving["best"]["params"] == {"rate": 0.2, "momentum": 0.9, "width": 8}


def check_vertex(document: dict[str, Any]) -> None:
    """No job is asked for by itself while it runs."""
    assert (document["jobs"], document["get_calls_a_minute"]) == (5, 0)
    assert document["cpu_seconds_a_minute"] > 0


def check_google(document: dict[str, Any]) -> None:
    """A job is searched, created and searched once more."""
    assert document["modelway"]["requests_of_a_submit"] == 3
    assert document["modelway"]["cpu_seconds_of_a_task"] > 0


def check_serve(document: dict[str, Any]) -> None:
    """Every answer was compared on the way."""
    assert list(document["models"]) == ["digits", "encoder"]
    for servers in document["models"].values():
        assert list(servers) == ["floor", "modelway"]
        for found in servers.values():
            assert set(found["clients"]) == {"1", "4"}
            assert all(row["cpu_us"] > 0 for row in found["clients"].values())


def check_train(document: dict[str, Any]) -> None:
    """The contract trains to the same loss as the script."""
    for result in document["results"]:
        assert result["same_loss"] is True
        assert result["peak_tflops"] is None
        assert result[f"{result['pairs'][0]['script']['unit']}_per_second"] > 0
        assert set(result["overhead"]) == {"steps", "whole"}
    assert {result["workload"] for result in document["results"]} == {"digits", "transformer"}


LINEAGE = "--versions 20 --many 40 --registers 2 --rounds 2 --samples 8 --steps 5 --without-mlflow"
PAGES = "--versions 70 --models 25 --rounds 2 --paints 0 --without-mlflow"
SMALL = {
    "bytes": ("bytes/run.py --small", check_bytes, ()),
    "cost": ("serving/cost.py --rounds 1 --requests 800", check_cost, ()),
    "counting": ("serving/counting.py --small", check_counting, ()),
    "evaluate": ("evaluate/run.py --small", check_evaluate, ()),
    "fleet": ("fleet/run.py --small", check_fleet, ()),
    "google": (
        "jobs/beside_google.py --jobs 3 --seconds 2 --settle 2 --without-provider",
        check_google,
        (pytest.mark.vertex,),
    ),
    "image": ("image/run.py --small --without oras", check_image, ()),
    "jobs": ("jobs/run.py --jobs 5 --seconds 12 --settle 6", check_jobs, (pytest.mark.cluster,)),
    "lineage": (f"lineage/run.py {LINEAGE}", check_lineage, (pytest.mark.database,)),
    "loop": ("loop/run.py --small", check_loop, ()),
    "monitor": ("monitor/run.py --small", check_monitor, ()),
    "pages": (f"pages/run.py {PAGES}", check_pages, (pytest.mark.database,)),
    "parse": ("parse/run.py --small", check_parse, ()),
    "rollout": ("rollout/run.py --small", check_rollout, ()),
    "route": ("route/run.py --small", check_route, ()),
    "search": ("search/run.py --small", check_search, ()),
    "serve": ("serving/compare.py --small", check_serve, ()),
    "train": ("train/run.py --device cpu --small", check_train, ()),
    "vertex": ("jobs/vertex.py --jobs 5 --seconds 12 --settle 12", check_vertex, (pytest.mark.vertex,)),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("bench", "words", "check"),
    [pytest.param(bench, words, check, id=bench, marks=marks) for bench, (words, check, marks) in SMALL.items()],
)
def test_a_small_run_gives_right_answers_and_the_figures(
    bench: str, words: str, check: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench == "jobs":
        require_cluster()
    file, *more = words.split()
    done = subprocess.run([sys.executable, str(BENCH / file), *more], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    check(document)
    monkeypatch.syspath_prepend(str(BENCH))
    from figures import figures_of

    found = figures_of(bench, document)
    assert len({(figure.name, figure.unit) for figure in found}) == len(found)
    # Those of parsing begin with a hundred models.
    assert found or bench == "parse"


def test_no_benchmark_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from page import TITLES
    from run_all import COMMANDS

    assert set(COMMANDS) == set(TITLES) == {*SMALL, "serving"}
    assert {words[0].partition("/")[0] for words in COMMANDS.values()} == {
        each.name for each in BENCH.iterdir() if each.is_dir() and any(each.glob("*.py"))
    }
    assert {file for _, file in TITLES.values()} == {f"bench/{words[0]}" for words in COMMANDS.values()}
