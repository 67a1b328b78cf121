"""Deploy a model version beside the one that serves."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.store import Artifact
from modelway.endpoints.base import EndpointSpec, EndpointStatus, Predictor
from modelway.errors import VerificationFailed
from modelway.hooks.connection import settings_from_airflow
from modelway.lineage.record import RolloutRecord
from modelway.operators._base import ModelwayOperator, run_key, store_from
from modelway.operators._traffic import endpoint_of, rollout_of, stable_of, weights_of
from modelway.operators.register import actor


class DeployModelOperator(ModelwayOperator):
    """Start a predictor of the version behind the model's endpoint and ask it the golden inputs, before any traffic.

    Where nothing serves yet, the version gets all of it. A run that has finished its rollout deploys nothing again:
    clearing it moves no traffic.

    :param version: what RegisterModelOperator returned
    :param image: what BuildImageOperator returned
    :param target: where versions serve
    :param host: address to listen on
    :param port: port to listen on; None takes a free one and keeps it
    :param path: the model's folder in the image

    Returns ``{endpoint, target, url, host, port, path, version, stable, weights, finished}``.
    """

    template_fields: Sequence[str] = ("version", "image", "target", "host", "port", "path")

    def __init__(
        self,
        *,
        version: Any,
        image: Any,
        target: str = "local",
        host: str = "127.0.0.1",
        port: int | None = None,
        path: str = "/models",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.image = image
        self.target = target
        self.host = host
        self.port = port
        self.path = path

    def run(self, context: Context) -> dict[str, Any]:
        """Bring the version up and check its answers."""
        from modelway.lineage.store import open_store

        settings = settings_from_airflow()
        store = open_store(settings.lineage_url)
        endpoint = endpoint_of(self.target, settings)
        model, number, run = self.version["model"], int(self.version["version"]), run_key(context)
        rollout = rollout_of(store, endpoint=model, run=run)
        current = endpoint.status(model)
        if rollout is not None and rollout.state != "running":
            self.log.info("this run's rollout is %s; nothing is deployed and no traffic moves", rollout.state)
            return self._told(current, number, stable=None, finished=True)
        spec = self._spec(model, number, current)
        status = endpoint.apply(spec)
        self._ask_golden(settings, status, number)
        weights = weights_of(status)
        store.record_weights(
            endpoint=model, model=model, weights=weights, actor=actor(context), run_id=context["dag_run"].run_id
        )
        if rollout is None:
            store.save_rollout(
                RolloutRecord(endpoint=model, run_id=run, model=model, version=number, state="running"),
                actor=actor(context),
            )
        self.log.info("version %d is ready behind %s, weights %s", number, status.url, weights)
        return self._told(status, number, stable=stable_of(weights, besides=number), finished=False)

    def _spec(self, model: str, number: int, current: EndpointStatus | None) -> EndpointSpec:
        """Return the endpoint with this version beside the stable one; a canary left by another run goes."""
        before = {predictor.version: predictor for predictor in current.predictors} if current else {}
        weights = weights_of(current) if current else {}
        stable = stable_of(weights, besides=number)
        mine = Predictor(version=number, image=self.image["reference"], weight=weights.get(number, 0))
        if stable is None:
            predictors: tuple[Predictor, ...] = (Predictor(version=number, image=mine.image, weight=100),)
        else:
            kept = Predictor(version=stable, image=before[stable].image, weight=100 - mine.weight)
            predictors = (kept, mine)
        return EndpointSpec(
            name=model,
            model=model,
            predictors=predictors,
            stable=stable,
            host=self.host,
            port=self.port,
            model_path=self.path,
        )

    def _ask_golden(self, settings: Any, status: EndpointStatus, number: int) -> None:
        """Ask the predictor the golden inputs, past the gateway.

        :raises VerificationFailed: it answers otherwise than the checkpoint did
        """
        url = next(predictor.url for predictor in status.predictors if predictor.version == number)
        with tempfile.TemporaryDirectory() as scratch:
            archive = store_from(settings).fetch(
                Artifact.from_dict(self.version["archive"]), to=Path(scratch) / "archive.zip"
            )
            unpack_archive(archive=archive, to=Path(scratch) / "model")
            difference = golden_difference(url=url, model=self.version["model"], folder=Path(scratch) / "model")
        self.log.info("the golden inputs' answers differ by at most %.3g from the checkpoint's", difference)

    def _told(
        self, status: EndpointStatus | None, number: int, *, stable: int | None, finished: bool
    ) -> dict[str, Any]:
        return {
            "endpoint": self.version["model"],
            "target": self.target,
            "url": status.url if status else None,
            "host": self.host,
            "port": self.port,
            "path": self.path,
            "version": number,
            "stable": stable,
            "weights": {str(version): weight for version, weight in weights_of(status).items()} if status else {},
            "finished": finished,
        }


def golden_difference(*, url: str, model: str, folder: Path, batch: int = 2) -> float:
    """Ask a predictor one golden batch over HTTP and return the largest difference from the golden answers.

    :raises VerificationFailed: an answer is missing or too far off
    """
    import httpx
    import numpy
    from safetensors.numpy import load_file

    inputs = load_file(folder / "golden" / "inputs.safetensors")
    expected = load_file(folder / "golden" / "outputs.safetensors")
    described = json.loads((folder / "outputs" / "model.yml").read_text())
    request = {
        "inputs": [
            {
                "name": each["name"],
                "datatype": each["datatype"],
                "shape": list(inputs[f"{batch}/{each['name']}"].shape),
                "data": inputs[f"{batch}/{each['name']}"].flatten().tolist(),
            }
            for each in described["inputs"]
        ]
    }
    answer = httpx.post(f"{url}/v2/models/{model}/infer", json=request, timeout=30)
    if answer.status_code != 200:
        raise VerificationFailed(f"the predictor answered {answer.status_code}: {answer.text[:300]}", where=url)
    largest = 0.0
    outputs = {each["name"]: each for each in answer.json()["outputs"]}
    for each in described["outputs"]:
        golden = expected[f"{batch}/{each['name']}"]
        given = numpy.array(outputs[each["name"]]["data"], dtype="float64").reshape(golden.shape)
        if not numpy.allclose(given, golden, atol=1e-3, rtol=1e-2, equal_nan=True):
            raise VerificationFailed(f"the predictor's output '{each['name']}' is not the checkpoint's", where=url)
        largest = max(largest, float(numpy.abs(given - golden).max()))
    return largest
