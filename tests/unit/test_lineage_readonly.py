"""Reading asks for no write access to the database, its folder or anything beside it."""

import argparse
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modelway.cli import versions
from modelway.errors import NotWritable
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from starlette.testclient import TestClient

from tests.lineage_samples import make_record


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a lineage with one version, which others may read and nobody may write."""
    with tempfile.TemporaryDirectory() as name:
        open_lineage(f"sqlite:///{name}/lineage.db").register(make_record(alias="champion"))
        monkeypatch.setenv("MODELWAY_HOME", name)
        monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
        (Path(name) / "lineage.db").chmod(0o444)
        Path(name).chmod(0o555)
        yield Path(name)
        Path(name).chmod(0o755)


def _store(url: str) -> None:
    store = open_lineage(url, read_only=True)
    assert store is not None
    assert [model.name for model in store.models()] == ["digits"]
    assert store.version("digits", store.find("digits", "champion")).summary.number == 1
    with pytest.raises(NotWritable, match="cannot be written"):
        store.register(make_record("another"))


def _pages(url: str) -> None:
    with TestClient(create_app(store_url=lambda: url, readable_dags=lambda: frozenset({"digits"}))) as client:
        for path in ("/models", "/models/digits/versions/1", "/api/models", "/api/models/digits/versions/champion"):
            answer = client.get(path)
            assert (answer.status_code, "digits" in answer.text) == (200, True), answer.text


def _commands(_url: str) -> None:
    parser = argparse.ArgumentParser()
    versions.add_commands(parser.add_subparsers(required=True))
    for line in ("versions digits", "show digits 1", "show digits champion --json"):
        args = parser.parse_args(line.split())
        assert args.run(args) == 0


def _as_nobody(work: Callable[[str], None], url: str, replies: "multiprocessing.SimpleQueue[str]") -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        work(url)
        replies.put("done")
    except BaseException:
        replies.put(traceback.format_exc())


@pytest.mark.parametrize("work", [_store, _pages, _commands])
def test_who_may_only_read_the_file_reads_it(folder: Path, work: Callable[[str], None]) -> None:
    fork = multiprocessing.get_context("fork")
    replies = fork.SimpleQueue()
    child = fork.Process(target=_as_nobody, args=(work, f"sqlite:///{folder}/lineage.db", replies))
    child.start()
    assert replies.get() == "done"
    child.join()
    assert [path.name for path in folder.iterdir()] == ["lineage.db"]
