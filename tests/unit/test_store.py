"""The artifact store: by digest, whole or not at all, checked when read."""

import errno
import json
import multiprocessing
import os
import shutil
import tempfile
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelway.artifacts.store import Artifact, ArtifactStore, file_digest
from modelway.errors import DigestMismatch, ModelwayError, NotWritable
from modelway.job import file_marks

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(f"file://{tmp_path}/store/")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(range(256)) * 100)
    return path


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def stored(artifact):
    return artifact.uri.removeprefix("file://")


def test_what_is_put_is_fetched_again(store, source, tmp_path):
    artifact = store.put(source, model="digits")
    assert artifact == Artifact(uri=artifact.uri, digest=file_digest(source), size=25600)
    hexdigits = artifact.digest.removeprefix("sha256:")
    assert artifact.uri == f"file://{tmp_path}/store/digits/sha256/{hexdigits[:2]}/{hexdigits[2:]}"
    copy = store.fetch(artifact, to=tmp_path / "a" / "b" / "copy.bin")
    assert copy.read_bytes() == source.read_bytes()
    assert files(tmp_path / "a") == [copy]


def test_what_was_put_is_found_by_its_digest(store, source, tmp_path):
    artifact = store.put(source, model="digits")
    assert store.find(artifact.digest, model="digits") == artifact
    assert store.find(artifact.digest, model="digits", uri=f"file://{tmp_path}/gone") == artifact
    (tmp_path / "moved.bin").write_bytes(source.read_bytes())
    moved = f"file://{tmp_path}/moved.bin"
    assert store.find(artifact.digest, model="letters", uri=moved) == Artifact(
        uri=moved, digest=artifact.digest, size=25600
    )
    assert store.find(artifact.digest, model="letters") is None


def test_an_artifact_survives_xcom(store, source):
    artifact = store.put(source, model="digits")
    assert Artifact.from_dict(json.loads(json.dumps({**artifact.to_dict(), "more": 1}))) == artifact


@pytest.mark.parametrize("data", [{}, {"uri": "x", "digest": "y"}, {"uri": "x", "digest": "y", "size": None}, None])
def test_what_is_no_artifact_is_reported(data):
    with pytest.raises(ModelwayError, match="is not an artifact. Give a mapping with uri, digest and size"):
        Artifact.from_dict(data)


def test_an_empty_file_is_an_artifact(store, tmp_path):
    (tmp_path / "empty").touch()
    artifact = store.put(tmp_path / "empty", model="digits")
    assert (artifact.digest, artifact.size) == (EMPTY, 0)
    assert store.fetch(artifact, to=tmp_path / "copy").read_bytes() == b""


def test_the_same_bytes_are_written_once(store, source, tmp_path):
    first = store.put(source, model="digits")
    before = os.stat(stored(first))
    other = tmp_path / "other name"
    other.write_bytes(source.read_bytes())
    assert store.put(other, model="digits") == first
    after = os.stat(stored(first))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(files(tmp_path / "store")) == 1


@pytest.fixture
def without_links(monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr("modelway.artifacts.sharing.os.link", refused)
    monkeypatch.setattr("modelway.artifacts.sharing.fcntl.ioctl", refused)


def blocks_of(path):
    """What two files of the same bytes do not share unless they are one, by a hard link or a reflink."""
    return os.stat(path).st_ino


def test_a_file_that_is_final_is_not_copied_into_the_store_nor_out_of_it(store, source, tmp_path, monkeypatch):
    monkeypatch.setattr("modelway.artifacts.sharing._reflink", lambda *_: False)
    artifact = store.put(source, model="digits", shared=True)
    given = store.fetch(artifact, to=tmp_path / "inputs" / "weights", shared=True)
    assert blocks_of(source) == blocks_of(stored(artifact)) == blocks_of(given)
    assert os.stat(given).st_mode & 0o777 == 0o444
    assert not list(tmp_path.rglob("*.part"))
    # A file that is removed from a job's inputs stays in the store.
    given.unlink()
    assert store.fetch(artifact, to=tmp_path / "copy").read_bytes() == bytes(range(256)) * 100
    assert blocks_of(tmp_path / "copy") != blocks_of(stored(artifact))


def test_a_file_is_copied_where_it_cannot_be_shared(store, source, tmp_path, without_links):
    artifact = store.put(source, model="digits", shared=True)
    given = store.fetch(artifact, to=tmp_path / "given", shared=True)
    assert len({blocks_of(each) for each in (source, stored(artifact), given)}) == 3
    assert given.read_bytes() == source.read_bytes()


def test_what_is_shared_is_checked_first(store, source, tmp_path):
    artifact = store.put(source, model="digits", shared=True)
    os.chmod(stored(artifact), 0o644)
    with open(stored(artifact), "r+b") as file:
        file.write(b"changed")
    with pytest.raises(DigestMismatch, match="truncated or changed"):
        store.fetch(artifact, to=tmp_path / "given", shared=True)
    assert not (tmp_path / "given").exists()


def test_a_digest_is_computed_once_until_the_file_changes(store, source, tmp_path, monkeypatch):
    read = []
    digest_of = file_marks.digest_of
    monkeypatch.setattr("modelway.job.file_marks.digest_of", lambda file: read.append(1) or digest_of(file))
    artifact = store.put(source, model="digits")
    if not hasattr(os, "getxattr") or "user.modelway.digest" not in os.listxattr(source):
        pytest.skip("this file system has no extended attributes")
    assert read == [1]
    assert store.put(source, model="digits") == artifact
    assert store.holds(artifact)
    assert store.local_file(artifact) is not None
    assert read == [1]
    # A copy with all attributes is another file.
    shutil.copy2(source, tmp_path / "copy")
    assert store.put(tmp_path / "copy", model="digits") == artifact
    assert read == [1, 1]
    os.utime(source)
    assert store.put(source, model="digits") == artifact
    assert read == [1, 1, 1]
    source.write_bytes(b"other")
    assert store.put(source, model="digits").digest == file_digest(source) != artifact.digest


def test_the_digest_of_a_file_that_changes_while_it_is_read_is_not_trusted(source, monkeypatch):
    digest_of = file_marks.digest_of

    def changed(file):
        found = digest_of(file)
        with source.open("r+b") as other:
            other.write(b"CHANGED")
        return found

    with monkeypatch.context() as patched, source.open("rb") as file:
        patched.setattr("modelway.job.file_marks.digest_of", changed)
        stale = file_marks.known_digest(file)
    with source.open("rb") as file:
        assert file_marks.marked_digest(file) is None
        assert file_marks.known_digest(file) == file_digest(source) != stale


@pytest.mark.parametrize("linked", [True, False])
def test_a_stored_file_is_as_old_as_it_is_stored(store, source, tmp_path, monkeypatch, linked):
    monkeypatch.setattr("modelway.artifacts.sharing._reflink", lambda *_: False)
    begin, written = datetime.now(UTC) - timedelta(seconds=5), datetime.now(UTC) - timedelta(days=40)
    os.utime(source, (written.timestamp(),) * 2)
    artifact = store.put(source, model="digits", shared=linked)
    assert (blocks_of(source) == blocks_of(stored(artifact))) is linked
    assert [each.modified >= begin for each in store.objects()] == [True]
    assert not store.remove(artifact.uri, before=begin)
    # What is only read is not renewed.
    os.utime(stored(artifact), (written.timestamp(),) * 2)
    store.fetch(artifact, to=tmp_path / "given", shared=True)
    assert [each.modified == written for each in store.objects()] == [True]


def _renew(folder, replies):
    """Store a file and renew it on later days, as a user who is not root."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        (folder / "weights").write_bytes(b"weights")
        store = ArtifactStore(f"file://{folder}/store")
        artifact = store.put(folder / "weights", model="digits", shared=True)
        place, read, digest_of = Path(stored(artifact)), [], file_marks.digest_of
        marked = hasattr(os, "listxattr") and file_marks.ATTRIBUTE in os.listxattr(place)
        file_marks.digest_of = lambda file: read.append(1) or digest_of(file)
        for days in (2, 3):
            past = datetime.now(UTC).timestamp() - days * 86400
            os.utime(place, (past, past))
            # Its digest is computed once, for it changed, and not again after it is renewed.
            assert store.holds(artifact)
            assert place.stat().st_mtime > past
            assert store.holds(artifact)
        replies.put((marked, len(read), oct(place.stat().st_mode & 0o777)))
    except BaseException:
        replies.put(traceback.format_exc())


def test_a_renewed_file_of_a_user_other_than_root_is_not_read_again(store, source):
    store.put(source, model="digits")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        fork = multiprocessing.get_context("fork")
        replies = fork.SimpleQueue()
        child = fork.Process(target=_renew, args=(Path(folder), replies))
        child.start()
        found = replies.get()
        child.join()
    if found[0] is False:
        pytest.skip("this file system has no extended attributes")
    assert found == (True, 2, "0o444")


def test_a_file_that_another_name_uses_is_not_removed(store, source, tmp_path):
    artifact = store.put(source, model="digits")
    os.link(stored(artifact), tmp_path / "input")
    soon = datetime.now(UTC) + timedelta(seconds=60)
    assert not store.remove(artifact.uri, before=soon, unless_shared=True)
    (tmp_path / "input").unlink()
    assert store.remove(artifact.uri, before=soon, unless_shared=True)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\1" + data[1:], lambda data: b""])
def test_damaged_bytes_are_refused_when_read_and_mended_when_put_again(store, source, tmp_path, damage):
    artifact = store.put(source, model="digits")
    with open(stored(artifact), "wb") as file:
        file.write(damage(source.read_bytes()))
    with pytest.raises(DigestMismatch, match="truncated or changed") as caught:
        store.fetch(artifact, to=tmp_path / "to" / "copy")
    assert artifact.uri in str(caught.value)
    assert artifact.digest in str(caught.value)
    assert files(tmp_path / "to") == []
    assert store.put(source, model="digits") == artifact
    assert store.fetch(artifact, to=tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_refused_fetch_leaves_the_file_that_was_there(store, source, tmp_path):
    artifact = store.put(source, model="digits")
    os.truncate(stored(artifact), 10)
    (tmp_path / "copy").write_text("old")
    with pytest.raises(DigestMismatch):
        store.fetch(artifact, to=tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "old"


def test_an_artifact_that_is_gone_is_named(store, source, tmp_path):
    artifact = store.put(source, model="digits")
    os.unlink(stored(artifact))
    with pytest.raises(DigestMismatch, match="is gone. Run the stage that made it again"):
        store.fetch(artifact, to=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_root_that_cannot_be_written_is_reported(tmp_path, source):
    (tmp_path / "store").write_text("a file in its place")
    store = ArtifactStore(f"file://{tmp_path}/store")
    with pytest.raises(NotWritable, match="MODELWAY_ARTIFACT_ROOT") as caught:
        store.put(source, model="digits")
    assert str(caught.value).startswith(f"file://{tmp_path}/store: the artifact store cannot be written")


def _put_often(root, path, results):
    results.put({ArtifactStore(root).put(path, model="digits").uri for _ in range(20)})


def test_many_writers_of_the_same_bytes_leave_one_whole_file(tmp_path, source):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    root = f"file://{tmp_path}/store"
    writers = [context.Process(target=_put_often, args=(root, source, results)) for _ in range(4)]
    for writer in writers:
        writer.start()
    uris = set().union(*(results.get(timeout=30) for _ in writers))
    for writer in writers:
        writer.join(timeout=30)
        assert writer.exitcode == 0
    assert len(uris) == 1
    (only,) = files(tmp_path / "store")
    assert only.read_bytes() == source.read_bytes()


def test_any_fsspec_root_will_do(source, tmp_path):
    store = ArtifactStore("memory://bucket")
    artifact = store.put(source, model="digits")
    assert artifact.uri.startswith("memory://bucket/digits/sha256/")
    assert store.put(source, model="digits") == artifact
    assert store.fetch(artifact, to=tmp_path / "copy").read_bytes() == source.read_bytes()
    with pytest.raises(DigestMismatch, match="is gone"):
        store.fetch(Artifact(uri="memory://bucket/none", digest=EMPTY, size=0), to=tmp_path / "none")
