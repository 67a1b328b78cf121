"""Garbage collection on both databases: what stays, what goes, what is reported, and what a crash leaves."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.assets.folder import init_folder
from modelway.assets.garbage import Collected, find_garbage, remove_garbage
from modelway.assets.transfer import download_asset, upload_asset
from modelway.errors import DigestMismatch
from modelway.lineage.records.version import EvaluationRecord, RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.lineage.write import retention

from tests.lineage_samples import make_record

ROOT = Path(__file__).resolve().parents[2]
MONTH = timedelta(days=30)


class Yard:
    """A store whose files are old as soon as they are made, and the lineage of what made them."""

    def __init__(self, url: str, place: Path) -> None:
        self.url, self.place = url, place
        self.artifacts = ArtifactStore(f"file://{place}/store")
        self.lineage = open_lineage(url)
        self.assets = self.lineage.assets

    def put(self, text: str, *, model: str = "digits", old: bool = True) -> Artifact:
        source = self.place / "source"
        source.write_text(text)
        artifact = self.artifacts.put(source, model=model)
        if old:
            self.age(artifact.uri)
        return artifact

    def age(self, uri: str, *, days: int = 40) -> None:
        at = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(uri.removeprefix("file://"), (at, at))

    def register(self, name: str, **more: Any) -> int:
        archive, checkpoint = self.put(f"archive {name}"), self.put(f"checkpoint {name}")
        code = self.put(f"code {name}")
        record = make_record(
            name,
            archive_uri=archive.uri,
            archive_digest=archive.digest,
            archive_size=archive.size,
            checkpoint_uri=checkpoint.uri,
            checkpoint_digest=checkpoint.digest,
            **more,
        )
        run = replace(record.run, code_digest=code.digest, code_uri=code.uri, code_size=code.size)
        return self.lineage.register(replace(record, run=run))

    def upload(self, name: str, text: str, **more: Any) -> int:
        folder = init_folder(self.place, name)
        (folder.place / "data").write_text(text)
        folder.add([folder.place / "data"])
        folder.write(replace(folder.read(), **more))
        number = upload_asset(self.assets, self.artifacts, folder, actor="mia").number
        for file in self.assets.version(name).files:
            self.age(file.uri)
        return number

    def there(self) -> set[str]:
        return {path.read_text() for path in (self.place / "store").rglob("*") if path.is_file()}

    def collect(self, *, keep: int = 1, older_than: timedelta = MONTH) -> Collected:
        return remove_garbage(self.lineage, self.artifacts, keep=keep, older_than=older_than, actor="ann")


def of(*names: str) -> set[str]:
    return {f"{what} {name}" for name in names for what in ("archive", "checkpoint", "code")}


@pytest.fixture
def yard(url: str, tmp_path: Path) -> Yard:
    return Yard(url, tmp_path)


def test_the_newest_versions_stay_and_what_no_version_has_goes(yard: Yard) -> None:
    for name in ("one", "two", "three"):
        yard.register(name)
    yard.put("a checkpoint that was not chosen")
    found = find_garbage(yard.lineage, yard.artifacts, keep=2, older_than=MONTH)
    assert yard.there() == of("one", "two", "three") | {"a checkpoint that was not chosen"}
    done = yard.collect(keep=2)
    assert yard.there() == of("two", "three")
    assert done == found
    assert (len(done.files), done.left, done.young) == (4, 6, 0)
    assert done.size == sum(map(len, [*of("one"), "a checkpoint that was not chosen"]))
    whats = sorted(each.what for each in done.files)
    kinds = ["archive", "checkpoint", "code"]
    assert whats == [f"{kind} of model digits v1" for kind in kinds] + ["of no version"]
    assert yard.collect(keep=2).files == ()


def test_what_an_alias_traffic_or_a_running_rollout_reaches_stays(yard: Yard) -> None:
    for name in ("aliased", "serving", "asset's alias", "from", "to", "was", "idle", "newest"):
        yard.register(name)
    yard.lineage.set_alias(model="digits", alias="champion", version=1)
    yard.lineage.record_weights(endpoint="shop", model="digits", weights={2: 100})
    yard.assets.set_alias("digits:v3", "precious")
    yard.lineage.record_weights(endpoint="web", model="digits", weights={6: 100}, run_id="earlier")
    yard.lineage.record_weights(endpoint="web", model="digits", weights={4: 100}, run_id="earlier")
    rollout = RolloutRecord(endpoint="web", run_id="now", model="digits", version=5, state="running")
    yard.lineage.save_rollout(rollout)
    # All traffic is on the new one, and the old one may yet get it back.
    yard.lineage.record_weights(endpoint="web", model="digits", weights={5: 100}, run_id="now")
    yard.collect()
    kept = ("aliased", "serving", "asset's alias", "from", "to", "newest")
    assert yard.there() == of(*kept)
    yard.lineage.record_weights(endpoint="web", model="digits", weights={8: 100}, run_id="now")
    yard.lineage.save_rollout(replace(rollout, state="done"))
    yard.collect()
    assert yard.there() == of("aliased", "serving", "asset's alias", "newest")


def test_what_a_kept_version_refers_to_stays_however_far_it_is(yard: Yard) -> None:
    yard.register("ground")
    yard.register("middle", base=1)
    yard.register("aside")
    yard.register("top", base=2)
    yard.upload("labels", "first labels")
    yard.upload("labels", "second labels")
    yard.upload("labels", "third labels")
    yard.upload("street", "street", references={"labels": "labels@1", "model": "digits:v3"})
    yard.collect()
    assert yard.there() == of("ground", "middle", "top", "aside") | {"first labels", "third labels", "street"}
    yard.upload("street", "street without")
    draft = init_folder(yard.place, "street").read()
    init_folder(yard.place, "street").write(replace(draft, references={}))
    yard.upload("street", "street alone")
    yard.collect()
    assert yard.there() == of("ground", "middle", "top") | {"third labels", "street alone"}


def test_what_a_runs_spec_keeps_of_its_other_checkpoints_stays(yard: Yard) -> None:
    seen = [yard.put(f"step {step}") for step in (1, 2, 3)]
    evaluations = [
        EvaluationRecord(checkpoint=f"c{step}", metrics={}, digest=each.digest, step=step)
        for step, each in enumerate(seen, start=1)
    ]
    spec = {"keep": {"checkpoints": 2, "time": None, "size": None}}
    yard.register("a", evaluations=evaluations, run=replace(make_record("a").run, spec=spec))
    yard.collect()
    assert {"step 2", "step 3", "checkpoint a"} <= yard.there()
    assert "step 1" not in yard.there()


def test_a_rollout_that_has_not_moved_anything_yet_keeps_its_version(yard: Yard) -> None:
    yard.register("waits")
    yard.register("newest")
    rollout = RolloutRecord(endpoint="web", run_id="now", model="digits", version=1, state="running")
    yard.lineage.save_rollout(rollout)
    yard.collect()
    assert yard.there() == of("waits", "newest")


def test_a_version_from_before_there_were_assets_keeps_its_base(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelway.lineage.write.register.write_run_assets", lambda *given, **more: None)
    yard.register("ground")
    yard.register("aside")
    yard.register("top", base=1)
    yard.collect()
    assert yard.there() == of("ground", "top")


def test_content_that_a_kept_version_shares_stays(yard: Yard) -> None:
    yard.upload("one", "shared")
    yard.upload("one", "new")
    yard.upload("two", "shared")
    yard.collect()
    assert yard.there() == {"shared", "new"}


def test_what_is_young_stays_whatever_it_is(yard: Yard) -> None:
    yard.put("of a run that continues", old=False)
    yard.put("old")
    done = yard.collect()
    assert yard.there() == {"of a run that continues"}
    assert (done.left, done.young) == (1, 1)


def test_snapshots_of_dag_files_and_what_is_not_the_stores_stay(yard: Yard) -> None:
    yard.put("snapshot", model="_snapshots")
    stranger = yard.place / "store" / "digits" / "notes.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("notes")
    yard.age(stranger.as_uri())
    yard.collect()
    assert yard.there() == {"snapshot", "notes"}


def test_what_killed_writers_and_quarantine_left_goes_in_time(yard: Yard) -> None:
    yard.register("one")
    place = yard.lineage.version("digits", 1).summary.archive_uri
    for ending in (".quarantine", ".0123abcd.part"):
        left = Path(f"{place.removeprefix('file://')}{ending}")
        left.write_text(ending)
        yard.age(left.as_uri(), days=40 if "part" in ending else 1)
    done = yard.collect()
    assert [each.what for each in done.files] == ["left over"]
    assert yard.there() == of("one") | {".quarantine"}


def test_a_registration_meanwhile_loses_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.put("archive late")
    yard.put("checkpoint late")
    record = retention._record

    def register_meanwhile(*given: Any, **more: Any) -> None:
        record(*given, **more)
        # The run makes again what an earlier one left behind, after it was found to be garbage.
        for text in ("archive late", "checkpoint late"):
            yard.put(text, old=False)

    monkeypatch.setattr(retention, "_record", register_meanwhile)
    done = yard.collect()
    assert done.files == ()
    assert yard.there() == {"archive late", "checkpoint late"}
    # Nothing is reported as gone that is there.
    archive = yard.put("archive late", old=False)
    assert yard.assets.removed([archive.uri]) == {}


def test_an_upload_that_finds_its_content_there_makes_it_young(yard: Yard) -> None:
    yard.upload("labels", "shared")
    yard.upload("labels", "newer")
    folder = init_folder(yard.place, "other")
    (folder.place / "data").write_text("shared")
    folder.add([folder.place / "data"])
    # Where it was first, and under another model: both ways of finding it.
    (held,) = yard.assets.version("labels@1").files
    yard.age(held.uri)
    upload_asset(yard.assets, yard.artifacts, folder, actor="mia")
    assert yard.artifacts.remove(held.uri, before=datetime.now(UTC) - MONTH) is False
    archive = yard.put("archive")
    assert yard.artifacts.remove(yard.put("archive", old=False).uri, before=datetime.now(UTC) - MONTH) is False
    assert yard.artifacts.remove(archive.uri, before=datetime.now(UTC) + MONTH) is True


def test_a_file_that_was_removed_says_by_whom_and_comes_back_when_uploaded_again(yard: Yard) -> None:
    yard.upload("labels", "first")
    yard.upload("labels", "second")
    yard.collect()
    (removed,) = yard.assets.version("labels@1").removed
    assert (removed.actor, removed.digest) == ("ann", yard.assets.version("labels@1").files[0].digest)
    with pytest.raises(DigestMismatch, match="'data' of labels@1 was removed from the artifact store by ann at 20"):
        download_asset(yard.assets, yard.artifacts, "labels@1", to=yard.place / "there")
    yard.upload("labels", "first")
    assert yard.assets.version("labels@1").removed == ()
    download_asset(yard.assets, yard.artifacts, "labels@1", to=yard.place / "there")
    assert (yard.place / "there" / "labels" / "data").read_text() == "first"


def test_a_version_registered_with_a_file_that_was_removed_has_it_again(yard: Yard) -> None:
    yard.register("one")
    yard.register("two")
    yard.collect()
    uri = yard.lineage.version("digits", 1).summary.archive_uri
    assert set(yard.assets.removed([uri])) == {uri}
    archive = yard.put("archive one")
    about = {"archive_uri": archive.uri, "archive_digest": archive.digest, "archive_size": archive.size}
    yard.lineage.register(make_record("again", **about))
    assert yard.assets.removed([uri]) == {}


KILLED = """
    import os, signal, sys
    from datetime import timedelta
    from modelway.artifacts.store import ArtifactStore
    from modelway.assets import garbage
    from modelway.lineage.store import open_lineage
    from modelway.lineage.write import retention
    half, url, root = sys.argv[1:]
    def die(*given, **more):
        os.kill(os.getpid(), signal.SIGKILL)
    remove, calls = ArtifactStore.remove, []
    def removes_one(self, uri, *, before):
        if calls:
            die()
        calls.append(uri)
        return remove(self, uri, before=before)
    if half == "recording":
        retention.add_event = die
    else:
        ArtifactStore.remove = removes_one
    garbage.remove_garbage(open_lineage(url), ArtifactStore(root), keep=1, older_than=timedelta(days=30), actor="first")
"""


@pytest.mark.parametrize(("half", "gone", "reported"), [("recording", 0, 0), ("removing", 1, 3)])
def test_killed_in_the_middle_it_leaves_nothing_broken_and_the_next_one_continues(
    yard: Yard, half: str, gone: int, reported: int
) -> None:
    for name in ("one", "two"):
        yard.register(name)
    code = textwrap.dedent(KILLED)
    done = subprocess.run(
        [sys.executable, "-c", code, half, yard.url, yard.artifacts.root],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert len(of("one", "two") - yard.there()) == gone
    assert of("two") <= yard.there()
    uris = {yard.put(text, old=False).uri: text for text in of("one") & yard.there()}
    one = yard.lineage.version("digits", 1).summary
    all_of_one = [each.uri for each in yard.assets.version("digits.code@1").files] + [one.archive_uri]
    assert len(yard.assets.removed([*all_of_one, str(one.checkpoint_uri)])) == reported
    for uri in uris:
        yard.age(uri)
    yard.collect()
    assert yard.there() == of("two")
    actors = {each.actor for each in yard.assets.removed([*all_of_one, str(one.checkpoint_uri)]).values()}
    assert actors == ({"ann"} if half == "recording" else {"ann", "first"})


def test_an_event_tells_of_it(yard: Yard) -> None:
    from modelway.lineage.schema.engine import parse_url
    from sqlalchemy import create_engine, text

    yard.put("old")
    yard.collect()
    yard.collect()
    with create_engine(parse_url(yard.url)).connect() as connection:
        rows = connection.execute(text("SELECT actor, detail FROM events WHERE kind = 'files-removed'")).all()
    ((actor, detail),) = rows
    assert actor == "ann"
    assert '"files": 1' in str(detail).replace("'", '"')


def test_without_a_lineage_nothing_is_garbage(new_url: str, tmp_path: Path) -> None:
    artifacts = ArtifactStore(f"file://{tmp_path}/store")
    (tmp_path / "source").write_text("x")
    old = artifacts.put(tmp_path / "source", model="digits")
    os.utime(old.uri.removeprefix("file://"), (0, 0))
    lineage = open_lineage(new_url, read_only=True)
    assert lineage is None
    assert remove_garbage(lineage, artifacts, keep=1, older_than=MONTH, actor="ann").left == 1
    assert find_garbage(lineage, artifacts, keep=1, older_than=MONTH).files == ()


def test_another_store_than_this_machines_is_swept_too(url: str, tmp_path: Path) -> None:
    lineage = open_lineage(url)
    artifacts = ArtifactStore(f"memory://garbage-{tmp_path.name}-{url[:6]}")
    (tmp_path / "source").write_text("x")
    put = artifacts.put(tmp_path / "source", model="digits")
    assert [each.uri for each in artifacts.objects()] == [put.uri]
    assert remove_garbage(lineage, artifacts, keep=1, older_than=MONTH, actor="ann").young == 1
    (gone,) = remove_garbage(lineage, artifacts, keep=1, older_than=timedelta(0), actor="ann").files
    assert (gone.uri, list(artifacts.objects())) == (put.uri, [])
