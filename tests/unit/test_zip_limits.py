"""Zip archives that would unpack to too much, or to what nobody packed, are refused before the first member."""

import zipfile

import pytest
from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.code_package import unpack_code_package
from modelway.errors import DigestMismatch, InvalidModelCode
from modelway.job import zip_limits
from modelway.job.freezing.comparison import VerificationError
from modelway.job.freezing.verify import unpack_checked

MANIFEST = '{"files": [], "model_digest": "sha256:0"}'


def with_members(*members, path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (("MANIFEST.json", MANIFEST), *members):
            archive.writestr(name, data)
    return path


def too_many(path):
    return with_members(*((f"f{number}", b"") for number in range(20)), path=path)


def twice(path):
    return with_members(("a", b"1"), ("a", b"2"), path=path)


def too_large(path):
    return with_members(("a", bytes(1_000_000)), path=path, compression=zipfile.ZIP_DEFLATED)


def overlapping(path):
    with_members(("a", b"x" * 5_000), ("b", b"y" * 5_000), path=path)
    data = bytearray(path.read_bytes())
    # Of both, the directory says that they are nearly as long as the file.
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    while at >= 0:
        data[at + 20 : at + 28] = (9_000).to_bytes(4, "little") * 2
        at = data.find(b"PK\x01\x02", at + 1)
    path.write_bytes(data)
    return path


CASES = {"members": too_many, "twice": twice, "bytes": too_large, "overlap": overlapping}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("reported", "make"), CASES.items(), ids=CASES.keys())
def test_nothing_is_unpacked_of_it(tmp_path, monkeypatch, reported, make):
    monkeypatch.setattr(zip_limits, "MOST_MEMBERS", 10)
    monkeypatch.setattr(zip_limits, "SMALL_BYTES", 50_000)
    archive, to = make(tmp_path / "x.zip"), tmp_path / "to"
    for unpack, error in (
        (lambda: unpack_archive(archive=archive, to=to), DigestMismatch),
        (lambda: unpack_checked(archive=archive, to=to), VerificationError),
        (lambda: unpack_code_package(package=archive, to=to), InvalidModelCode),
    ):
        with pytest.raises(error, match=f"is not unpacked: .*{reported}"):
            unpack()
    assert not to.exists()


def test_a_plain_archive_has_no_problem(tmp_path):
    with zipfile.ZipFile(with_members(("a", b"1"), path=tmp_path / "x.zip")) as archive:
        assert zip_limits.zip_problem(archive) is None
