"""MLflow through its own client, in an environment of its own: reads one request per line, answers with what it took.

``python mlflow_client.py http://127.0.0.1:5000``
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from workload import ALIAS, MODEL, Run, make_run

#: what the server takes in one request of each kind
ENTITIES, METRICS = 1000, 1000


class Mlflow:
    """Each method is one question or one fact, asked the way that costs the server least."""

    def __init__(self, url: str) -> None:
        self._client = MlflowClient(url)
        found = self._client.get_experiment_by_name(MODEL)
        self._experiment = found.experiment_id if found else self._client.create_experiment(MODEL)

    def begin(self) -> int:
        """Make the model."""
        self._client.create_registered_model(MODEL)
        return 0

    def prepare(self, run: Run) -> tuple[Run, list[Param], list[Metric]]:
        """Return what ``register`` takes; not measured."""
        now = int(time.time() * 1000)
        params = [Param(name, value) for name, value in run.params.items()]
        points = [Metric(name, value, now, step) for name, found in run.series.items() for step, value in found]
        return run, params, points

    def register(self, prepared: tuple[Run, list[Param], list[Metric]]) -> int:
        """Write a run, its version with the digests of its files, and the alias."""
        run, params, points = prepared
        made = self._client.create_run(self._experiment, run_name=run.name)
        key, room = made.info.run_id, ENTITIES - len(params)
        self._client.log_batch(key, metrics=points[:room], params=params)
        for start in range(room, len(points), METRICS):
            self._client.log_batch(key, metrics=points[start : start + METRICS])
        version = self._client.create_model_version(
            MODEL,
            source=f"{made.info.artifact_uri}/model",
            run_id=key,
            tags={digest: path for path, (digest, _) in run.files.items()},
            await_creation_for=0,
        )
        self._client.set_registered_model_alias(MODEL, ALIAS, version.version)
        return int(version.version)

    def latest(self, _: Any) -> int:
        """Which version is the newest; get_latest_versions reads all of them."""
        found = self._client.search_model_versions(f"name='{MODEL}'", 1, ["version_number DESC"])
        return int(found[0].version)

    def by_alias(self, _: Any) -> int:
        """Which version an alias means."""
        return int(self._client.get_model_version_by_alias(MODEL, ALIAS).version)

    def models(self, _: Any) -> Any:
        """Which models there are; each with its newest version and aliases."""
        return list(self._client.search_registered_models())

    def full_record(self, number: int) -> Any:
        """A version and its run with the last value of each metric; each metric's history would be a request more."""
        version = self._client.get_model_version(MODEL, str(number))
        return version, self._client.get_run(version.run_id)

    def compare(self, pair: list[int]) -> Any:
        """In which params two versions differ."""
        left, right = (self.full_record(number)[1].data.params for number in pair)
        return {name for name in left if left[name] != right.get(name)}

    def who_has(self, digest: str) -> Any:
        """Which versions have a file of this content."""
        found = self._client.search_model_versions(f"tags.`{digest}` LIKE '%'")
        return [version.version for version in found]


def main() -> None:
    """Answer until the input ends."""
    client = Mlflow(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        work: Callable[[Any], Any] = getattr(client, asked["do"])
        given = asked.get("given")
        prepared = client.prepare(make_run(given, **asked["sizes"])) if asked["do"] == "register" else given
        began, cpu = time.perf_counter(), time.process_time()
        found = work(prepared) if asked["do"] != "begin" else client.begin()
        took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        answer = found if isinstance(found, int) else len(found)
        print(json.dumps(took | {"answer": answer}), flush=True)


if __name__ == "__main__":
    main()
