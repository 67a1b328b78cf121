"""Whatever writes the lineage writes for its exporters, too: it is opened for writing in few places."""

import re
from pathlib import Path

import modelway
import pytest
from modelway.lineage.schema.engine import connect_engine
from modelway.lineage.store import open_lineage

from tests.lineage_samples import make_record

LIBRARY = Path(modelway.__file__).parent


def test_it_is_opened_for_writing_only_where_the_exporters_are_known() -> None:
    found = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*.py")
        for call in re.findall(r"(?<!def )\bopen_lineage\(.*", path.read_text())
        if "read_only=True" not in call
    }
    # The lineage of a run that is reproduced is a scratch one, which nobody exports.
    assert found == {"hooks/lineage.py", "cli/reproduction/preparation.py"}


def test_all_parts_work_on_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(
        "modelway.lineage.schema.connect.connect_engine", lambda url: made.append(url) or connect_engine(url)
    )
    lineage = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    lineage.register(make_record())
    assert lineage.graph.upstream("digits").roots == ("version:digits@1",)
    assert lineage.assets.version("digits").summary.model_version == 1
    assert lineage.exports.states() == []
    assert lineage.retention.unneeded([], keep=1) == []
    assert len(made) == 1
