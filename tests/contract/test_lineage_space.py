"""A PostgreSQL whose disk is full: refused with a reason, nothing lost, and it continues when there is space again."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from modelway.errors import NotWritable
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record
from tests.postgres_server import PostgresServer


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 24 MiB, where this user may mount one; on CI it may."""
    folder = Path(tempfile.mkdtemp(prefix="modelway-small-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        folder.rmdir()
        assert os.environ.get("CI") != "true", mounted.stderr
        pytest.skip(f"no disk can be mounted: {mounted.stderr.strip()}")
    shutil.chown(folder, "postgres", "postgres")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


@pytest.fixture
def small_url(lineage_server: PostgresServer, small_disk: Path) -> Iterator[str]:
    """A database on that disk."""
    name = small_disk.name.replace("-", "_").lower()
    with psycopg.connect(lineage_server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE {name} LOCATION '{small_disk}'")  # type: ignore[call-overload]
        admin.execute(f"CREATE DATABASE {name} TABLESPACE {name}")  # type: ignore[call-overload]
        yield lineage_server.url(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]
        admin.execute(f"DROP TABLESPACE {name}")  # type: ignore[call-overload]


BULKY = {"train": {f"param-{number}": "x" * 1000 for number in range(1000)}}


def _fill(store: Lineage) -> tuple[int, NotWritable]:
    """Register until it is refused; return how many versions were acknowledged, and the refusal."""
    for reported in range(100):
        try:
            store.register(make_record(f"run-{reported}", params=BULKY, alias="candidate"))
        except NotWritable as refusal:
            return reported, refusal
    raise AssertionError("100 versions of 1 MB fit on a disk of 24 MiB")


def test_a_full_disk_loses_nothing_and_is_reported(small_url: str, small_disk: Path) -> None:
    store = open_lineage(small_url)
    reported, refusal = _fill(store)
    assert "No space left on device" in str(refusal)
    assert "see that the disk has space" in str(refusal)
    assert reported > 2
    assert [version.number for version in store.versions("digits")] == list(range(reported, 0, -1))
    assert store.aliases("digits") == {"candidate": reported}
    assert store.version("digits", reported).params == BULKY
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    assert store.register(make_record(f"run-{reported}", params=BULKY, alias="candidate")) == reported + 1
    assert store.aliases("digits") == {"candidate": reported + 1}
