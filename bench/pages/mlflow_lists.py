"""An MLflow server with as many versions and models, and its own lists of them over its REST API."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from pages_fill import fill_their_models
from workload import MODEL

from tests.postgres_server import PostgresServer

#: as many as a page of ours has
LISTED = 50


@contextmanager
def mlflow_lists(
    server: PostgresServer, client: httpx.Client, *, mlflow: Path, versions: int, models: int
) -> Iterator[dict[str, tuple[str, Callable[[], Any]]]]:
    """Yield MLflow's lists by name, each with the list of ours that has the same records.

    Its versions have no metrics: those are of its runs, which ``runs/search`` lists with parameters and metrics.
    """
    given = argparse.Namespace(mlflow=mlflow, versions=versions, steps=1)
    with _lineage_bench().mlflow(server, given) as served:
        fill_their_models(served.database, models=models)
        api = f"{served.url}/api/2.0/mlflow"
        named = {"experiment_name": MODEL}
        experiment = client.get(f"{api}/experiments/get-by-name", params=named).raise_for_status().json()
        of_runs = {"experiment_ids": [experiment["experiment"]["experiment_id"]], "max_results": LISTED}
        of_versions: dict[str, str | int] = {"filter": f"name='{MODEL}'", "max_results": LISTED}
        of_versions["order_by"] = "version_number DESC"

        def listed_versions() -> Any:
            found = client.get(f"{api}/model-versions/search", params=of_versions).raise_for_status().json()
            return _checked(found["model_versions"], min(LISTED, versions))

        def listed_runs() -> Any:
            found = client.post(f"{api}/runs/search", json=of_runs).raise_for_status().json()
            return _checked(found["runs"], min(LISTED, versions))

        def listed_models() -> Any:
            every = {"max_results": 1000}
            found = client.get(f"{api}/registered-models/search", params=every).raise_for_status().json()
            return _checked(found["registered_models"], min(1000, models + 1))

        yield {
            "versions beside MLflow's versions": ("versions", listed_versions),
            "versions beside MLflow's runs": ("versions", listed_runs),
            "models beside MLflow's": ("models", listed_models),
        }


def _lineage_bench() -> Any:
    """Return bench/lineage/run.py, whose name is that of this bench, too."""
    import importlib.util

    path = Path(__file__).resolve().parents[1] / "lineage" / "run.py"
    spec = importlib.util.spec_from_file_location("lineage_bench", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checked(found: list[Any], count: int) -> int:
    if len(found) != count:
        raise SystemExit(f"MLflow lists {len(found)}, not {count}")
    return count
