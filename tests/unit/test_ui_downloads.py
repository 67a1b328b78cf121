"""A version's files as they are downloaded: what its record lists, below the artifact root, whole or cut off."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest
from modelway.artifacts import downloads
from modelway.artifacts.archive import Manifest, write_archive
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import DigestMismatch, NotStored
from modelway.lineage.records.version import FileRecord, VersionRecord
from modelway.lineage.store import open_lineage
from starlette.testclient import TestClient

from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages

ODD = 'model/ein "模型".bin'
PLACE = "/modelway/api/models/digits/versions/1"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "model").mkdir()
    (folder / "model" / "large.bin").write_bytes(bytes(range(256)) * 12_000)
    (folder / ODD).write_bytes(b"odd")
    (folder / "model" / "empty").write_bytes(b"")
    archive = folder.with_suffix(".zip")
    return archive, write_archive(folder=folder, documents={}, to=archive)


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An artifact root on this machine, and one on an object store."""
    yield (tmp_path / "artifacts").as_uri() if request.param == "file" else "memory://artifacts"
    fsspec.filesystem("memory").store.clear()


def record_of(artifact: Artifact, manifest: Manifest) -> VersionRecord:
    files = [FileRecord(path=each.path, digest=f"sha256:{each.sha256}", size=each.size) for each in manifest.members]
    place = {"archive_uri": artifact.uri, "archive_digest": artifact.digest, "archive_size": artifact.size}
    return replace(make_record("run-1"), files=files, **place)


@pytest.fixture
def client(pages: MountedPages, packed: tuple[Path, Manifest], root: str, tmp_path: Path) -> TestClient:
    archive, manifest = packed
    stored = ArtifactStore(root).put(archive, model="digits")
    url = f"sqlite:///{tmp_path}/lineage.db"
    open_lineage(url).register(record_of(stored, manifest))
    pages.artifact_root = root
    return pages.client(url, headers={"reader": "digits"})


def test_each_file_and_the_archive_are_downloaded_as_recorded(
    client: TestClient, packed: tuple[Path, Manifest]
) -> None:
    for member in packed[1].members:
        answer = client.get(f"{PLACE}/file?path={quote(member.path, safe='')}")
        assert (answer.status_code, len(answer.content)) == (200, member.size)
        assert hashlib.sha256(answer.content).hexdigest() == member.sha256
        assert answer.headers["content-length"] == str(member.size)
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["repr-digest"].startswith("sha-256=:")
    whole = client.get(f"{PLACE}/archive")
    assert whole.content == packed[0].read_bytes()
    assert "digits-v1.zip" in whole.headers["content-disposition"]
    assert zipfile.is_zipfile(BytesIO(whole.content))
    page = client.get("/modelway/models/digits/versions/1", headers={"accept": "text/html"}).text
    assert f'href="/team{PLACE}/file?path={quote(ODD, safe="")}"' in page


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "model", "", "MANIFEST.json/..", "model/../large"])
def test_what_the_record_does_not_list_is_not_sent(client: TestClient, path: str) -> None:
    answer = client.get(f"{PLACE}/file?path={quote(path, safe='')}")
    assert (answer.status_code, "has no such file" in answer.json()["detail"]) == (404, True)


def test_who_may_not_read_the_version_gets_nothing(client: TestClient) -> None:
    for path in ("archive", "file?path=model/empty"):
        assert client.get(f"{PLACE}/{path}", headers={"reader": "letters"}).status_code == 404
        client.headers.pop("reader", None)
        assert client.get(f"{PLACE}/{path}").status_code == 401
        client.headers["reader"] = "digits"


@pytest.mark.parametrize("elsewhere", ["file:///etc", "memory://other", "s3://bucket/artifacts"])
def test_what_is_not_below_the_artifact_root_is_not_opened(
    client: TestClient, pages: MountedPages, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    pages.artifact_root = elsewhere
    monkeypatch.setattr(downloads, "StoredFile", None)
    answer = client.get(f"{PLACE}/archive")
    assert (answer.status_code, "not below the artifact root" in answer.json()["detail"]) == (503, True)


def test_a_link_out_of_the_artifact_root_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    for uri in ((tmp_path / "root" / "link").as_uri(), f"{(tmp_path / 'root').as_uri()}/../outside"):
        with pytest.raises(Exception, match="not below the artifact root"):
            downloads.open_download(Artifact(uri=uri, digest="sha256:0", size=6), root=(tmp_path / "root").as_uri())
    with pytest.raises(Exception, match="not below the artifact root"):
        downloads.open_download(Artifact(uri="s3://b/root/../x", digest="sha256:0", size=6), root="s3://b/root")


@pytest.mark.parametrize("name", ["of #1", "of ?1", "of%201"])
def test_the_path_that_is_checked_is_the_one_that_is_opened(tmp_path: Path, name: str) -> None:
    """A sign that has a meaning in a URL has none in the root of a store."""
    stored, outside = tmp_path / name / "stored", tmp_path / "of " / "outside"
    for file in (stored, outside, tmp_path / "of 1" / "stored"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"12")
    digest = f"sha256:{hashlib.sha256(b'12').hexdigest()}"

    def sent(file: Path) -> bytes:
        about = Artifact(uri=f"file://{file}", digest=digest, size=2)
        return b"".join(downloads.open_download(about, root=f"file://{stored.parent}"))

    assert sent(stored) == b"12"
    for file in (outside, tmp_path / "of 1" / "stored"):
        with pytest.raises(NotStored, match="not below the artifact root"):
            sent(file)


@pytest.mark.parametrize("size", [downloads.BLOCK, 2 * downloads.BLOCK, 2 * downloads.BLOCK + 1])
def test_of_a_file_that_became_longer_less_than_it_was_is_sent(tmp_path: Path, size: int) -> None:
    """Whoever got as many bytes as announced would take them for the file."""
    whole = bytes(size)
    (tmp_path / "longer").write_bytes(whole + b"more")
    about = Artifact(
        uri=(tmp_path / "longer").as_uri(), digest=f"sha256:{hashlib.sha256(whole).hexdigest()}", size=size
    )
    got = []
    with pytest.raises(DigestMismatch, match="not what the digest names"):
        got.extend(downloads.open_download(about, root=tmp_path.as_uri()))
    assert len(b"".join(got)) < size


def test_a_file_that_is_damaged_is_cut_off_and_one_that_is_gone_is_named(
    client: TestClient, root: str, tmp_path: Path, packed: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes what is cut off for the file."""
    found = open_lineage(f"sqlite:///{tmp_path}/lineage.db").version("digits", 1).summary
    archive = Artifact(uri=found.archive_uri, digest=found.archive_digest, size=found.archive_size)
    fs, place = fsspec.core.url_to_fs(found.archive_uri)
    data = bytearray(packed[0].read_bytes())
    data[-1] ^= 1
    if root.startswith("file"):
        Path(place).chmod(0o600)
    with fs.open(place, "wb") as file:
        file.write(data)
    got = []
    with pytest.raises(DigestMismatch, match="not what the digest names"):
        got.extend(downloads.open_download(archive, root=root))
    assert len(b"".join(got)) < len(data)
    fs.rm(place)
    answer = client.get(f"{PLACE}/archive")
    assert (answer.status_code, "cannot be had" in answer.json()["detail"]) == (503, True)

    def refuses(self: object) -> None:
        raise RuntimeError("AWS_SECRET_ACCESS_KEY=hunter2")

    monkeypatch.setattr(downloads.StoredFile, "open", refuses)
    answer = client.get(f"{PLACE}/archive")
    assert (answer.status_code, "the artifact store cannot be read (RuntimeError)" in answer.json()["detail"]) == (
        503,
        True,
    )
    assert "hunter2" not in answer.text
