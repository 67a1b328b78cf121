"""A package that belongs to an extra and is missing is named by that extra."""

import sys

import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.errors import CapabilityMissing, ModelwayError
from modelway.lineage.schema.engine import connect_engine, parse_url

from tests.contract.test_job_main import reason, run
from tests.job_folders import write_job


@pytest.mark.parametrize("package", ["torch", "onnx.helper", "sklearn.datasets"])
def test_in_a_job(tmp_path, package):
    folder = write_job(tmp_path, code=f"import sys\nsys.modules['{package.split('.')[0]}'] = None\nimport {package}\n")
    assert run(folder).returncode == 1
    assert reason(folder).endswith("(tiny.py:3 in <module>); install modelway[torch] where this job runs")


def test_for_the_lineage(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ModelwayError, match=r"Install modelway\[postgres\]"):
        connect_engine(parse_url("postgresql://db/lineage"))


def test_for_artifacts(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CapabilityMissing, match=r"Install modelway\[google\]"):
        ArtifactStore("gs://bucket").put(tmp_path / "file", model="tiny")
