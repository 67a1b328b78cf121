"""DAGs of specs that a test writes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import DAG
from modelway.dag import build_dag
from modelway.spec.load import load_spec

CODE = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"


@pytest.fixture
def dag_of(tmp_path: Path) -> Callable[[str], DAG]:
    """Return a function that makes the DAG of a spec without its first line, the model's name."""

    def make(spec: str = "", name: str = "tiny") -> DAG:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "model.yaml").write_text(f"model: {name}\n{spec}")
        (folder / f"{name}.py").write_text(CODE)
        return build_dag(load_spec(folder))

    return make
