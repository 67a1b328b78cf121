"""SnapshotDagBundle: a version is what the folders were, on every machine, however often they change."""

import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.bundles import base
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager
from modelway import bundle as bundle_module
from modelway.artifacts.commits import git_commit
from modelway.bundle import SnapshotDagBundle
from modelway.errors import ModelwayError, NotWritable
from modelway.operators.package import PackageCodeOperator

from tests.quick_python import COMMAND

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"


class Site:
    """Folders of DAG files and models, and Airflow's storage on one or more machines."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.dags, self.models, self.store = root / "dags", root / "models", root / "home" / "artifacts"
        shutil.copytree(REPOSITORY / "dags", self.dags, ignore=shutil.ignore_patterns("__pycache__", "examples"))
        for name in ("first", "second"):
            self.write(name, f"model: {name}\n")
            (self.models / name / f"{name}.py").write_text(CODE)
        monkeypatch.setenv("MODELWAY_HOME", str(root / "home"))
        monkeypatch.setenv("MODELWAY_MODELS", str(self.models))
        monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(self.dags))
        monkeypatch.delenv("MODELWAY_ARTIFACT_ROOT", raising=False)
        monkeypatch.setattr(bundle_module, "SETTLED_SECONDS", -1.0)
        self.machine("one")

    def machine(self, name: str) -> None:
        """Go on at another machine: nothing is shared but the artifact store."""
        storage = self.root / "machines" / name
        self.monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(storage))
        self.monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", storage / "_tracking")

    def write(self, model: str, text: str) -> None:
        (self.models / model).mkdir(parents=True, exist_ok=True)
        (self.models / model / "model.yaml").write_text(text)

    def bundle(self, version: str | None = None) -> SnapshotDagBundle:
        bundle = SnapshotDagBundle(name="modelway", version=version)
        bundle.initialize()
        return bundle


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


def version_of(bundle: SnapshotDagBundle) -> str:
    current = bundle.get_current_version()
    assert current is not None
    return current.version


def spec_in(bundle: SnapshotDagBundle, model: str = "first") -> str:
    return (bundle.path.parent / "include" / "models" / model / "model.yaml").read_text()


def test_a_version_stays_what_it_was(site):
    bundle = site.bundle()
    assert bundle.supports_versioning
    first = version_of(bundle)
    site.write("first", "model: first\nretries: 5\n")
    bundle.refresh()
    second = version_of(bundle)
    assert first != second
    assert spec_in(bundle) == "model: first\nretries: 5\n"
    assert spec_in(site.bundle(first)) == "model: first\n"
    assert spec_in(site.bundle(second)) == "model: first\nretries: 5\n"
    site.write("first", "model: first\n")
    bundle.refresh()
    assert version_of(bundle) == first
    with pytest.raises(ModelwayError, match="it has no refresh"):
        site.bundle(first).refresh()


def test_nothing_is_written_while_nothing_changes(site, monkeypatch):
    version = version_of(site.bundle())
    monkeypatch.setattr(bundle_module, "write_snapshot", lambda *_, **__: pytest.fail("a snapshot was taken"))
    again = site.bundle()
    again.refresh()
    assert version_of(again) == version


def test_a_file_that_changes_twice_in_one_instant_is_not_missed(site, monkeypatch):
    monkeypatch.setattr(bundle_module, "SETTLED_SECONDS", 60.0)
    # Times that do not change: only reading the file again shows it.
    monkeypatch.setattr(bundle_module, "signature", lambda *_: "same")
    bundle = site.bundle()
    site.write("first", "model: first\nretries: 5\n")
    bundle.refresh()
    assert "retries" in spec_in(bundle)


def test_another_machine_takes_the_version_from_the_artifact_store(site):
    version = version_of(site.bundle())
    site.write("first", "broken")
    shutil.rmtree(site.dags)
    site.machine("two")
    bundle = site.bundle(version)
    assert spec_in(bundle) == "model: first\n"
    assert (bundle.path / "models.py").is_file()


def test_many_tasks_that_start_at_once_share_one_whole_folder(site):
    version = version_of(site.bundle())
    site.machine("two")
    found, start = [], threading.Barrier(8)

    def begin() -> None:
        start.wait()
        found.append(spec_in(site.bundle(version)))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["model: first\n"] * 8
    base_dir = site.bundle(version).base_dir
    assert [path.name for path in (base_dir / "versions").iterdir()] == [version]
    assert list(base_dir.glob("taking-*")) == []


def test_while_the_store_cannot_be_written_the_last_snapshot_continues(site):
    bundle = site.bundle()
    first = version_of(bundle)
    site.store.rename(site.store.with_name("away"))
    site.store.touch()
    assert version_of(site.bundle()) == first, "what did not change needs no store"
    site.write("first", "model: first\nretries: 5\n")
    with pytest.raises(NotWritable, match=r"the artifact store cannot be written .* MODELWAY_ARTIFACT_ROOT"):
        bundle.refresh()
    assert version_of(bundle) == first
    assert spec_in(bundle) == "model: first\n"
    site.store.unlink()
    bundle.refresh()
    assert "retries" in spec_in(bundle)


def test_a_version_that_is_gone_is_reported(site):
    version = version_of(site.bundle())
    shutil.rmtree(site.store)
    site.machine("two")
    with pytest.raises(ModelwayError, match=r"that this run started with cannot be fetched .* latest version"):
        site.bundle(version)


def test_a_damaged_snapshot_is_refused(site):
    version = version_of(site.bundle())
    (stored,) = (path for path in site.store.rglob("*") if path.is_file())
    stored.write_bytes(stored.read_bytes().replace(b"model: first", b"model: worst"))
    site.machine("two")
    with pytest.raises(ModelwayError, match="cannot be fetched"):
        site.bundle(version)


def test_airflow_may_remove_versions_and_the_one_in_use_comes_back(site, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD", "0")
    bundle = site.bundle()
    first = version_of(bundle)
    site.write("first", "model: first\nretries: 5\n")
    bundle.refresh()
    base.BundleUsageTrackingManager()._remove_stale_bundle_versions_for_bundle("modelway")
    kept = [path.name for path in bundle.versions_dir.iterdir()]
    assert kept == [version_of(bundle)], "the dag-processor's own use counts"
    assert spec_in(site.bundle(first)) == "model: first\n"
    shutil.rmtree(bundle.path.parent)
    bundle.refresh()
    assert "retries" in spec_in(bundle)


def test_a_half_removed_version_is_made_whole(site):
    bundle = site.bundle()
    (bundle.path.parent / "snapshot.json").unlink()
    shutil.rmtree(bundle.path)
    bundle.refresh()
    assert (bundle.path / "models.py").is_file()


def test_the_api_server_finds_the_path_without_any_file(site):
    assert SnapshotDagBundle(name="modelway").path == site.dags
    path = site.bundle().path
    assert SnapshotDagBundle(name="modelway").path == path


def test_two_deployments_share_the_storage_of_one_machine(site, tmp_path):
    first = version_of(site.bundle())
    shutil.copytree(site.models, tmp_path / "others")
    (tmp_path / "others" / "first" / "more.txt").touch()
    other = SnapshotDagBundle(name="modelway", models=str(tmp_path / "others"))
    other.initialize()
    assert version_of(other) != first
    assert SnapshotDagBundle(name="modelway").path.parent.name == first


def test_snapshots_are_not_written_by_accident(site):
    bundle = site.bundle()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in bundle.path.parent.rglob("*") if path.is_file()}
    assert modes <= {0o444, 0o555}


@pytest.mark.parametrize("variable", ["MODELWAY_HOME", "MODELWAY_ARTIFACT_ROOT"])
def test_a_snapshot_is_not_written_into_what_it_is_made_of(site, monkeypatch, variable):
    monkeypatch.setenv(variable, str(site.models / "home"))
    with pytest.raises(ModelwayError, match="is in .*models, of which each change is stored there"):
        site.bundle().refresh()
    assert not (site.models / "home").exists()
    monkeypatch.setenv(variable, str(site.models / ".home"))
    site.bundle().refresh()


def test_a_large_snapshot_is_reported(site, monkeypatch, caplog):
    site.bundle()
    assert caplog.messages == []
    monkeypatch.setattr(bundle_module, "LARGE_BYTES", 100)
    (site.models / "first" / "weights.bin").write_bytes(b"x" * 200)
    site.bundle()
    assert "keep data out of" in caplog.text


def test_the_code_package_comes_from_the_snapshot(site, monkeypatch):
    bundle = site.bundle()
    (site.models / "first" / "first.py").write_text("changed = True\n")
    operator = PackageCodeOperator(task_id="package", model="first", module="first.py")
    dag_file = bundle.path / "models.py"
    monkeypatch.setattr(PackageCodeOperator, "dag", SimpleNamespace(fileloc=str(dag_file)), raising=False)
    monkeypatch.setattr("modelway.operators.base.settings_from_airflow", bundle_module.load_settings)
    before = operator.run({})
    monkeypatch.setattr(PackageCodeOperator, "dag", SimpleNamespace(fileloc=str(site.dags / "models.py")))
    after = operator.run({})
    assert before["digest"] != after["digest"]
    bundle.refresh()
    assert version_of(bundle) != dag_file.parents[1].name


SERIALISE = """
import json, pathlib, sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
folder = pathlib.Path(sys.argv[1])
found = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="modelway")
assert not found.import_errors, found.import_errors
print(json.dumps({name: SerializedDagModel.hash(DagSerialization.to_dict(dag)) for name, dag in found.dags.items()}))
"""


def test_an_unchanged_model_has_the_same_dag_in_two_snapshots(site, tmp_path):
    bundle = site.bundle()
    paths = [bundle.path]
    site.write("second", "model: second\nretries: 5\n")
    bundle.refresh()
    paths.append(bundle.path)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow")}
    hashes = []
    for path in paths:
        command = [*COMMAND, SERIALISE, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        hashes.append(json.loads(done.stdout.splitlines()[-1]))
    assert hashes[0]["first"] == hashes[1]["first"]
    assert hashes[0]["second"] != hashes[1]["second"]


def test_airflow_finds_the_bundle_in_the_plugins_folder_alone(site, tmp_path):
    """A team that installs nothing: the library is importable wherever Airflow makes its bundles."""
    plugins = tmp_path / "plugins"
    shutil.copytree(REPOSITORY / "plugins", plugins, ignore=shutil.ignore_patterns("__pycache__"))
    packages = tmp_path / "site-packages"
    packages.mkdir()
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if "modelway" not in each.name:
            (packages / each.name).symlink_to(each)
    code = (
        "from airflow.dag_processing.bundles.manager import DagBundlesManager\n"
        "bundle = DagBundlesManager().get_bundle('modelway')\n"
        "import modelway.bundle\n"
        "print(modelway.bundle.__file__, bundle)\n"
    )
    configuration = '[{"name": "modelway", "classpath": "modelway.bundle.SnapshotDagBundle", "kwargs": {}}]'
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": configuration,
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert f"{plugins}/modelway/bundle.py SnapshotDagBundle(name=modelway)" in done.stdout, done.stdout + done.stderr


def test_a_file_is_parsed_no_more_often_after_a_callback_of_one_of_its_runs(site):
    bundle = site.bundle()
    place = {"rel_path": Path("models.py"), "bundle_name": "modelway", "bundle_path": bundle.path}
    file, of_run = DagFileInfo(**place), DagFileInfo(**place, bundle_version=version_of(bundle))
    manager = DagFileProcessorManager(max_runs=-1)
    for each, had_callbacks in ((file, False), (of_run, True)):
        ended = SimpleNamespace(had_callbacks=had_callbacks, parsing_result=None, start_time=time.monotonic())
        manager.handle_parsing_result(each, ended)
    manager.prepare_file_queue(known_files={"modelway": {file}})
    assert list(manager._file_queue) == []


def test_a_state_that_was_there_before_is_parsed_at_once_as_a_new_one_is(site):
    """However rarely Airflow parses files that did not change."""
    bundle, manager = site.bundle(), DagFileProcessorManager(max_runs=-1)
    manager._file_process_interval = 600

    def parsed() -> bool:
        """Let Airflow parse what it would parse now; return whether that is the file."""
        manager._file_queue.clear()
        file = DagFileInfo(rel_path=Path("models.py"), bundle_name="modelway", bundle_path=bundle.path)
        manager.prepare_file_queue(known_files={"modelway": {file}})
        if is_queued := list(manager._file_queue) == [file]:
            ended = SimpleNamespace(had_callbacks=False, parsing_result=None, start_time=time.monotonic())
            manager.handle_parsing_result(file, ended)
        return is_queued

    assert (parsed(), parsed()) == (True, False)
    for text in ("model: first\nretries: 5\n", "model: first\n"):
        site.write("first", text)
        bundle.refresh()
        assert (parsed(), parsed()) == (True, False)
    bundle.refresh()
    assert not parsed(), "nothing has changed"


def test_each_model_has_its_commit_whatever_its_name(site):
    site.write("dags", "model: dags\n")
    git = ["git", "-C", str(site.models), "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    models = site.bundle().path.parent / "include" / "models"
    for name in ("first", "dags"):
        assert git_commit(models / name).commit
