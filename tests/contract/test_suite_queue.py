"""`make test`: the order of its steps, what each used, what its tests share, and that every test is in a step."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from modelway.localairflow.processes import LocalAirflow

from tests.airflow_template import with_database
from tests.run_all import report
from tests.suite.queue import Queue, next_step, priority, unsteady_tests
from tests.suite.steps import ROOT, START, STEPS, Step


def step(name, seconds=10, **more):
    return Step(name=name, command=(sys.executable, "-c", more.pop("code", "")), seconds=seconds, **more)


def order(steps, *, cores=2):
    """Return the names in the order in which they start, when each takes its ``seconds``."""
    waiting, running, started, now = list(steps), {}, [], 0
    while waiting or running:
        while found := next_step(waiting, list(running), cores=cores):
            waiting.remove(found)
            running[found] = now + found.seconds
            started.append((now, found.name))
        assert running, [each.name for each in waiting]
        first = min(running, key=running.__getitem__)
        now = running.pop(first)
    return started


def test_the_longest_start_first_on_as_many_places_as_cores_and_three_for_what_waits():
    rest = [step(f"rests {seconds}", seconds, waits=True) for seconds in (16, 15, 12, 1)]
    assert order([step("short"), step("long", 30), step("middle", 20), *rest]) == [
        *((0, "rests 16"), (0, "rests 15"), (0, "rests 12"), (0, "long"), (0, "middle")),
        *((12, "rests 1"), (20, "short")),
    ]


def test_what_waits_takes_a_core_only_when_nothing_computes():
    rest = [step(name, seconds, waits=True) for name, seconds in zip("abcd", (50, 40, 35, 30), strict=True)]
    assert order([step("one", 10), *rest], cores=1) == [
        *((0, "a"), (0, "b"), (0, "c"), (0, "one")),
        (10, "d"),
    ]


def test_a_step_counts_with_what_comes_after_it():
    steps = [step("start", 1), step("long", 30), step("after", 40, needs="start"), step("middle", 20)]
    assert priority(steps[0], steps) == 41
    assert order(steps) == [(0, "start"), (0, "long"), (1, "after"), (30, "middle")]


def test_a_step_counts_with_those_that_must_not_run_beside_it():
    of_node = [step("one", 20, needs="start", uses="node"), step("two", 30, needs="start", uses="node")]
    steps = [step("start", 1), *of_node, step("three", 40, needs="start")]
    assert [priority(each, steps) for each in steps] == [51, 50, 50, 40]
    assert priority(of_node[0], [of_node[0]]) == 20


def test_one_step_at_a_time_has_what_they_use():
    steps = [step("one", 30, uses="node"), step("two", 20, uses="node", waits=True), step("three", 10)]
    assert order(steps) == [(0, "two"), (0, "three"), (20, "one")]


def test_a_quiet_step_comes_first_and_beside_it_what_computes_on_the_other_cores():
    steps = [
        step("waits", 50, waits=True),
        step("start", 3, waits=True),
        step("quiet", 20, waits=True, needs="start", quiet=True),
        *(step(name, seconds) for name, seconds in (("a", 9), ("b", 8), ("c", 7), ("d", 6))),
    ]
    assert order(steps) == [
        *((0, "start"), (0, "a"), (3, "quiet"), (9, "b"), (17, "c")),
        *((23, "waits"), (23, "d")),
    ]
    assert order(steps, cores=1)[:3] == [(0, "start"), (3, "quiet"), (23, "waits")]


def test_a_step_gets_what_the_one_that_it_needs_printed(tmp_path):
    shows = "import os; print(os.environ['PLACE'], os.environ['MODELWAY_STEP'])"
    steps = [
        step("prints", code="print('export PLACE=/here'); print('more')"),
        step("shows", code=shows, needs="prints"),
    ]
    prints, shown = Queue(steps=steps, folder=tmp_path, cores=2).run()
    assert (prints.word, prints.output) == ("passed", "export PLACE=/here\nmore\n")
    assert (shown.word, shown.output) == ("passed", "/here shows\n")


def test_what_needs_a_step_that_failed_is_left_out(tmp_path):
    steps = [
        step("fails", code="raise SystemExit(3)"),
        step("needs", needs="fails"),
        step("bears", needs="fails", without=True),
    ]
    assert [(each.step.name, each.status) for each in Queue(steps=steps, folder=tmp_path, cores=2).run()] == [
        ("fails", 3),
        ("bears", 0),
    ]


@pytest.mark.parametrize(("variables", "word"), [({"CI": "true"}, "FAILED"), ({"CI": ""}, "skipped")])
def test_a_cluster_that_does_not_start_fails_on_ci_alone(tmp_path, monkeypatch, variables, word):
    monkeypatch.setenv("CI", variables["CI"])
    (outcome,) = Queue(steps=[step(START, code="raise SystemExit(1)")], folder=tmp_path, cores=2).run()
    assert outcome.word == word


@pytest.fixture
def ended(tmp_path):
    """Run a step of two tests, of which one is of this code, and return its outcomes."""

    def run(code):
        place = tmp_path / "test_it.py"
        place.write_text(f"from pathlib import Path\ndef test_one(): pass\ndef test_two():\n    {code}\n")
        of_pytest = Step(name="few", command=(sys.executable, "-m", "pytest", "-q"), tests=(str(place),), seconds=1)
        return list(Queue(steps=[of_pytest], folder=tmp_path, cores=2).run())

    return run


def test_a_test_that_fails_beside_others_is_run_again_and_named(ended, tmp_path):
    seen = tmp_path / "seen"
    code = f"seen = Path({str(seen)!r})\n    if not seen.exists(): seen.mkdir(); assert 0"
    first, again = ended(code)
    assert (first.word, again.step.name, again.word) == ("FAILED", "few again", "passed")
    assert "1 passed" in again.output
    (name,) = first.failed
    assert name.endswith("test_it.py::test_two")
    assert unsteady_tests([first, again]) == {"few": (name,)}
    assert f"UNSTEADY in few, passed only when run again alone: {name}" in report([first, again], wall=1)
    assert "1 passed, 0 failed" in report([first, again], wall=1)


def test_a_test_that_fails_twice_has_failed(ended):
    first, again = ended("assert 0")
    assert (first.word, again.word) == ("FAILED", "FAILED")
    assert unsteady_tests([first, again]) == {}
    assert "0 passed, 2 failed" in report([first, again], wall=1)
    assert f"FAILED few: {first.failed[0]}" in report([first, again], wall=1)


def test_a_test_skipped_on_ci_is_named_in_the_summary(ended, tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.conftest import *\n"
    )
    (only,) = ended("import pytest; pytest.skip('no service')")
    summary = report([only], wall=1)
    assert re.search(r"FAILED few: tests that were skipped, on CI none may be: \S*test_it.py::test_two$", summary, re.M)


def test_many_failed_tests_are_not_run_again(ended):
    (only,) = ended("pass\nimport pytest\n@pytest.mark.parametrize('n', range(11))\ndef test_three(n): assert 0")
    assert (only.word, len(only.failed)) == ("FAILED", 11)


def test_the_cpu_time_of_a_step_has_that_of_its_children(tmp_path):
    spins = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spins!r}])"
    (outcome,) = Queue(steps=[step("starts", code=code)], folder=tmp_path, cores=2).run()
    assert outcome.cpu_seconds > 0.3
    assert outcome.seconds > 0.3


def test_every_file_of_tests_is_in_a_step():
    """By folder, or by name where another step leaves it out."""
    folders = {path for each in STEPS for path in each.tests if not path.endswith(".py")}
    assert {f"tests/{kind}" for kind in ("unit", "contract", "dags", "docs", "system")} == folders
    named = {path for each in STEPS for path in each.tests if path.endswith(".py")}
    left_out = {path for each in STEPS for path in each.ignored}
    assert left_out <= named
    assert [path for path in named if not (ROOT / path).exists()] == []
    others = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert [path for path in others if "/".join(path.split("/")[:2]) not in folders] == []


def test_what_each_test_took_is_added_to_one_file(tmp_path):
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['tests.suite.durations']\n")
    (tmp_path / "test_it.py").write_text("import time\ndef test_one(): time.sleep(0.2)\ndef test_two(): assert False\n")
    places = {"MODELWAY_DURATIONS": str(tmp_path / "tests.jsonl"), "MODELWAY_STEP": "few", "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
        subprocess.run(words, cwd=tmp_path, env={**os.environ, **places}, capture_output=True)
    lines = [json.loads(line) for line in (tmp_path / "tests.jsonl").read_text().splitlines()]
    assert [(line["step"], line["test"].split("::")[1]) for line in lines] == [
        ("few", "test_one"),
        ("few", "test_two"),
    ] * 2
    assert lines[0]["wall"] >= 0.2
    assert lines[0]["cpu"] < 0.2


def test_an_airflow_of_a_test_has_its_database_already(tmp_path):
    airflow = LocalAirflow(home=with_database(tmp_path), repository=ROOT)
    airflow.prepare()
    assert list((airflow.folder / "logs").iterdir()) == [], "nothing was migrated"
    with closing(sqlite3.connect(airflow.folder / "airflow.db")) as database:
        assert database.execute("SELECT count(*) FROM dag_run").fetchone() == (0,)
