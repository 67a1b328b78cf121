"""`make test ARGS=--changed`: which tests a change reaches."""

import pytest

from tests.suite.changed import restricted, selected
from tests.suite.imports import Imports, closure
from tests.suite.steps import ROOT, START, STEPS


@pytest.fixture(scope="module")
def imports():
    return Imports()


def first(room, word):
    """Return a file of a room of the library whose path has a word, in whatever folders it lies."""
    found = (path for path in (ROOT / "plugins" / "modelway" / room).rglob("*.py") if word in str(path))
    return str(min(found).relative_to(ROOT))


def test_what_needs_what_is_followed_to_its_end_and_may_go_round():
    needs = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "e": {"a"}}
    assert closure(needs, "a") == {"a", "b", "c", "d"}
    assert closure(needs, "d") == {"d"}


def test_a_module_reaches_the_tests_that_import_it_and_no_others(imports):
    files, whole = selected(["plugins/modelway/ui/app.py"], imports)
    assert not whole
    assert {"tests/unit/test_ui.py", "tests/system/test_page_browser.py"} <= files
    assert not {"tests/unit/test_suite_queue.py", "tests/contract/test_lineage_rows.py"} & files


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        # by a module between them
        (first("lineage", "queries"), "tests/unit/test_lineage_store.py"),
        # a member that is found by listing its room
        (first("backends", "docker"), "tests/contract/test_backends.py"),
        # a program that another process runs
        ("plugins/modelway/job/__main__.py", "tests/contract/test_job_main.py"),
        # what an Airflow loads
        ("plugins/modelway/dag/build.py", "tests/system/test_demo.py"),
        # a file of a test beside it, and one that several share
        ("tests/tiny_model.py", "tests/contract/test_server.py"),
        ("tests/page_samples.py", "tests/system/test_page_looks.py"),
        # by a fixture of a conftest.py
        ("tests/docker_engine.py", "tests/contract/test_backends.py"),
        ("tests/postgres_server.py", "tests/contract/test_lineage_rows.py"),
        ("tests/contract/conftest.py", "tests/contract/test_builders.py"),
        # what is no Python
        ("tests/bad/gates/model.yaml", "tests/unit/test_spec_bad.py"),
        ("tests/unit/kubernetes-1.36/exit-3.json", "tests/unit/test_kubernetes_recorded.py"),
        ("include/models/digits/model.yaml", "tests/system/test_demo.py"),
        ("bench/lineage/run.py", "tests/contract/test_benches.py"),
        ("docs/freezing.md", "tests/docs/test_guide.py"),
    ],
)
def test_a_change_reaches(imports, changed, reached):
    files, whole = selected([changed], imports)
    assert reached in files
    assert not whole


@pytest.mark.parametrize("changed", ["pyproject.toml", "Makefile", "tests/conftest.py", "plugins/modelway/gone.py"])
def test_what_may_reach_anything_runs_everything(imports, changed):
    files, _ = selected(["docs/freezing.md", changed], imports)
    assert len(files) == sum(1 for _ in (ROOT / "tests").rglob("test_*.py"))


def test_text_reaches_the_tests_of_the_docs_alone(imports):
    files, whole = selected(["README.md", "docs/adr/README.md"], imports)
    assert not whole
    assert {path.split("/")[1] for path in files} == {"docs"}


def test_each_step_runs_those_of_its_files_that_are_reached():
    files = {"tests/unit/test_names.py", "tests/contract/test_gateway.py", "tests/system/test_demo.py"}
    steps = {step.name: step.tests for step in restricted(STEPS, files)}
    assert steps["unit"] == ("tests/unit/test_names.py",)
    assert steps["serving"] == steps["lineage"] == ("tests/contract/test_gateway.py",)
    assert steps["demo"] == ("tests/system/test_demo.py",)
    # What checks the whole text is always run, and the cluster starts for those that need it.
    assert {"lint", "types", START, "docker"} <= steps.keys()
    assert not {"contract", "system", "runs", "matrix", "kubernetes"} & steps.keys()
    assert START not in {step.name for step in restricted(STEPS, {"tests/unit/test_names.py"})}
