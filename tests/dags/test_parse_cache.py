"""What is stored of parsed models for the next process: used for the same files, code and settings alone."""

import json
import os
import shutil
from importlib.metadata import distributions
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from modelway.dag import build
from modelway.spec import parse_cache
from modelway.spec.files import FilesRead
from modelway.spec.load import load_specs
from modelway.spec.parse_cache import ParseCache

from tests.unit.spec_samples import GOOD_CODE

SPEC = "extends: ../defaults.yaml\nmodel: {name}\nschedule: {{cron: '@daily', start: 2026-01-01, assets: [{assets}]}}\n"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two models, in a home of their own."""
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    models = tmp_path / "models"
    for name in ("one", "two"):
        (models / name).mkdir(parents=True)
        (models / name / "model.yaml").write_text(SPEC.format(name=name, assets="s3://bucket/rows"))
        (models / name / f"{name}.py").write_text(GOOD_CODE)
    (models / "defaults.yaml").write_text("owner: vision\n")
    return models


@pytest.fixture
def built(monkeypatch):
    """The names of the models whose DAG was built."""
    names, real = [], build.build_dag

    def spy(spec):
        names.append(spec.model)
        return real(spec)

    monkeypatch.setattr(build, "build_dag", spy)
    return names


def loaded(models: Path) -> dict[str, str]:
    """Return each model's DAG as Airflow serialises it."""
    dags = build.load_dags(models)
    return {name: json.dumps(DagSerialization.to_dict(dag), sort_keys=True) for name, dag in dags.items()}


def test_a_second_load_builds_nothing_and_is_the_same(models, built):
    first = loaded(models)
    assert built == ["one", "two"]
    assert loaded(models) == first
    assert built == ["one", "two"]
    task = build.load_dags(models)["one"].get_task("freeze.register")
    assert task.dag.dag_id == "one"
    assert task.upstream_task_ids >= {"freeze.verify"}
    assert task.task_group.group_id == "freeze"


@pytest.mark.parametrize(
    ("file", "text", "again"),
    [
        ("one/model.yaml", SPEC.format(name="one", assets="s3://bucket/rows") + "owner: other\n", ["one"]),
        ("one/one.py", GOOD_CODE + "# changed\n", ["one"]),
        ("defaults.yaml", "owner: speech\n", ["one", "two"]),
    ],
)
def test_a_changed_file_is_read_again(models, built, file, text, again):
    first = loaded(models)
    built.clear()
    stamp = (models / file).stat()
    (models / file).write_text(text)
    # The time of a file decides nothing.
    os.utime(models / file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = loaded(models)
    assert built == again
    changed = [name for name in first if first[name] != second[name]]
    assert changed == ([] if file.endswith(".py") else again)


def test_a_file_that_became_invalid_is_a_problem_and_one_that_is_gone_too(models, built):
    loaded(models)
    (models / "one" / "one.py").write_text("def train(job): ...\n")
    (models / "two" / "two.py").unlink()
    assert loaded(models) == {}
    assert len(load_specs(models).problems) == 3


def test_a_model_that_another_one_affects_is_left_out_with_it(models, built):
    (models / "one" / "model.yaml").write_text(SPEC.format(name="one", assets="modelway://two"))
    assert [*loaded(models)] == ["one", "two"]
    # Now they start each other; the files of one are the same.
    (models / "two" / "model.yaml").write_text(SPEC.format(name="two", assets="modelway://one"))
    assert loaded(models) == {}
    (models / "two" / "model.yaml").write_text(SPEC.format(name="two", assets=""))
    assert [*loaded(models)] == ["one", "two"]
    assert built == ["one", "two", "two"]


@pytest.mark.parametrize("name", ["AIRFLOW__API__BASE_URL", "MODELWAY_SECRETS"])
def test_other_settings_have_entries_of_their_own(models, built, monkeypatch, name):
    loaded(models)
    monkeypatch.setenv(name, "https://airflow.example.com/team")
    loaded(models)
    assert built == ["one", "two", "one", "two"]
    monkeypatch.delenv(name)
    loaded(models)
    assert len(built) == 4


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that stands for modelway's code."""
    package = tmp_path / "modelway"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(parse_cache.modelway, "__file__", str(package / "__init__.py"))
    yield package
    parse_cache._code.cache_clear()


def test_other_code_has_entries_of_its_own(models, built, request):
    loaded(models)
    package = request.getfixturevalue("package")
    parse_cache._code.cache_clear()
    loaded(models)
    (package / "new.py").write_text("")
    parse_cache._code.cache_clear()
    loaded(models)
    assert built == ["one", "two"] * 3


def test_other_code_of_an_installed_member_has_entries_of_its_own(models, tmp_path, monkeypatch):
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    (site / "toybox").mkdir(parents=True)
    (information := site / "toybox-1.0.dist-info").mkdir()
    (information / "entry_points.txt").write_text("[modelway.backends]\ntoy = toybox.member:MEMBER\n")

    def folder(version: str, code: str) -> Path:
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toybox\nVersion: {version}\n")
        (site / "toybox" / "__init__.py").write_text(code)
        (found,) = (entry for each in distributions(path=[str(site)]) for entry in each.entry_points)
        monkeypatch.setattr(parse_cache.ports, "installed", lambda port: {"toy": found} if port == "backends" else {})
        parse_cache._code.cache_clear()
        return ParseCache(models, versions=(), writes=True)._folder

    try:
        folders = [folder("1.0", ""), folder("1.1", ""), folder("1.1", "x = 1\n"), folder("1.0", "")]
    finally:
        parse_cache._code.cache_clear()
    assert None not in folders
    assert len({*folders[:3]}) == 3


def test_code_that_cannot_be_read_costs_only_time(models, built, package):
    parse_cache._code.cache_clear()
    # An editor's lock.
    (package / ".#__init__.py").symlink_to("mia@desk.1")
    assert loaded(models) == loaded(models)
    assert built == ["one", "two"]
    (package / "gone.py").symlink_to("nowhere")
    parse_cache._code.cache_clear()
    assert [*loaded(models)] == ["one", "two"]
    assert built == ["one", "two"] * 2


def test_other_versions_have_entries_of_their_own(models):
    folders = {
        ParseCache(models, versions=versions, writes=True)._folder for versions in (("3.3.2",), ("3.3.3",), ("3.3.2",))
    }
    assert len(folders) == 2


def test_a_snapshot_elsewhere_has_the_same_entries_and_its_own_folders(models, built, tmp_path):
    first = loaded(models)
    shutil.copytree(models, tmp_path / "snapshot" / "models")
    assert loaded(tmp_path / "snapshot" / "models") == first
    assert built == ["one", "two"]
    cache = ParseCache(
        tmp_path / "snapshot" / "models",
        versions=(build.airflow.__version__, build.airflow.sdk.__version__),
        writes=False,
    )
    specs = load_specs(tmp_path / "snapshot" / "models", cache=cache)
    assert specs.specs["one"].folder == tmp_path / "snapshot" / "models" / "one"
    assert {file.parent.name for file in specs.sources["one"]} == {"one", "models"}


def test_a_starting_task_reads_and_writes_nothing(models, built, monkeypatch, tmp_path):
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "one")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "package")
    assert [*loaded(models)] == ["one"]
    assert not (tmp_path / "home").exists()
    monkeypatch.delenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID")
    monkeypatch.delenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID")
    loaded(models)
    built.clear()
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    assert [*loaded(models)] == ["two"]
    assert built == []


def entries(home: Path) -> list[Path]:
    return sorted((home / parse_cache.FOLDER).glob("*/*"))


def test_a_damaged_entry_is_written_anew(models, built, tmp_path):
    loaded(models)
    for entry in entries(tmp_path / "home"):
        entry.write_bytes(entry.read_bytes()[:-40])
    loaded(models)
    loaded(models)
    assert built == ["one", "two"] * 2
    assert len(entries(tmp_path / "home")) == 4


def test_entries_that_others_may_write_are_not_read(models, built, tmp_path):
    loaded(models)
    (folder,) = (tmp_path / "home" / parse_cache.FOLDER).iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    loaded(models)
    assert built == ["one", "two"] * 2


def test_a_home_that_cannot_be_written_costs_only_time(models, built, tmp_path):
    (tmp_path / "home").write_text("a file")
    assert loaded(models) == loaded(models)
    assert built == ["one", "two"] * 2


def test_the_entries_of_old_settings_are_removed(models, tmp_path, monkeypatch):
    for number in range(6):
        monkeypatch.setenv("MODELWAY_SECRETS", f"team_{number}*")
        loaded(models)
        (newest,) = [
            each for each in (tmp_path / "home" / parse_cache.FOLDER).iterdir() if each.stat().st_mtime_ns > 10**18
        ]
        os.utime(newest, ns=(number, number))
    assert len([*(tmp_path / "home" / parse_cache.FOLDER).iterdir()]) == 4


def test_what_more_than_files_decides_is_not_stored(models, built, tmp_path):
    # Whether flax can be frozen depends on which other files there are.
    (models / "one" / "one.py").write_text("import flax, anything\n" + GOOD_CODE)
    assert [*loaded(models)] == ["one", "two"]
    (models / "one" / "anything.py").write_text("")
    assert [*loaded(models)] == ["two"]


def test_a_file_with_two_contents_in_one_reading_has_no_digest():
    reads = FilesRead()
    reads.add(Path("one"), b"1")
    reads.add(Path("one"), b"1")
    assert reads.digests == {Path("one"): b"1"}
    reads.add(Path("one"), b"2")
    reads.add(Path("one"), b"1")
    assert reads.digests == {Path("one"): b""}
