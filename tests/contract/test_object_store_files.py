"""The artifact store on an object store: what is put, put again, found bad, listed and removed there."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts import store as store_module
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import DigestMismatch

from tests.gs_server import gs_server
from tests.s3_server import LOGIN, MISSING, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server("127.0.0.1") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def gs() -> Iterator[dict[str, str]]:
    with gs_server() as environment:
        yield environment


# S3 and GCS need an environment of their own: tests/object_store_environment.py
@pytest.fixture(params=["memory"] if MISSING else ["memory", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    name = f"files-{tmp_path.name.replace('_', '-').lower()[-40:].strip('-')}"
    if request.param == "memory":
        return ArtifactStore(f"memory://{name}/artifacts")
    if request.param == "gs":
        for key, value in request.getfixturevalue("gs").items():
            monkeypatch.setenv(key, value)
        import gcsfs

        async def move(self: Any, source: str, target: str, **_: Any) -> None:
            await self._cp_file(source, target)
            await self._rm_file(source)

        # The emulator has no moveTo; gcsfs does this when it has tried that for half a minute.
        monkeypatch.setattr(gcsfs.GCSFileSystem, "_mv_file", move)
        gcsfs.GCSFileSystem.clear_instance_cache()
        gcsfs.GCSFileSystem().mkdir(name)
        return ArtifactStore(f"gs://{name}/artifacts")
    endpoint = request.getfixturevalue("s3")
    for key, value in {**LOGIN, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(key, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(endpoint_url=endpoint).mkdir(name)
    return ArtifactStore(f"s3://{name}/artifacts")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("good bytes")
    return path


def overwrite(artifact: Artifact, text: str) -> None:
    fs, place = store_module._filesystem(artifact.uri)
    fs.pipe(place, text.encode())


def modified(store: ArtifactStore) -> datetime:
    (only,) = store.objects()
    return only.modified


def test_what_is_put_is_listed_and_removed_once_it_is_old(store: ArtifactStore, source: Path) -> None:
    assert list(store.objects()) == []
    artifact = store.put(source, model="digits")
    (found,) = store.objects()
    assert (found.uri, found.digest, found.size) == (artifact.uri, artifact.digest, 10)
    assert (found.folder, found.whole) == ("digits", True)
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert store.remove(artifact.uri, before=datetime.now(UTC) - timedelta(days=1)) is False
    assert store.remove(artifact.uri, before=datetime.now(UTC) + timedelta(days=1)) is True
    assert list(store.objects()) == []
    # Somebody else was faster.
    assert store.remove(artifact.uri, before=datetime.now(UTC) + timedelta(days=1)) is True


@pytest.mark.parametrize("way", ["put", "holds"])
def test_what_is_old_and_needed_again_becomes_young(
    store: ArtifactStore, source: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    artifact = store.put(source, model="digits")
    before = modified(store)
    assert store.put(source, model="digits") == artifact
    assert modified(store) == before
    # As if it had lain there for long; some stores count whole seconds.
    monkeypatch.setattr(store_module, "SETTLED", timedelta(0))
    monkeypatch.setattr(ArtifactStore, "_write", lambda *given: pytest.fail("it was sent again"))
    until = time.monotonic() + 30
    while modified(store) == before and time.monotonic() < until:
        assert store.put(source, model="digits") == artifact if way == "put" else store.holds(artifact)
    assert modified(store) > before
    assert store.fetch(artifact, to=source.with_name("copy")).read_text() == "good bytes"


def test_bad_bytes_are_moved_aside_and_a_good_copy_mends_them(store: ArtifactStore, source: Path) -> None:
    artifact = store.put(source, model="digits")
    # As many bytes: an object store is not read again when something is put.
    overwrite(artifact, "evil bytes")
    with pytest.raises(DigestMismatch, match="The bad one is beside it now"):
        store.fetch(artifact, to=source.with_name("copy"))
    (bad,) = store.objects()
    assert (bad.uri, bad.whole, bad.digest) == (f"{artifact.uri}.quarantine", False, artifact.digest)
    assert not store.holds(artifact)
    assert store.put(source, model="digits") == artifact
    assert store.fetch(artifact, to=source.with_name("copy")).read_text() == "good bytes"
