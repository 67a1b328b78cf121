"""Deploy a model version beside the one that serves."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.store import Artifact
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Predictor
from modelway.errors import EndpointNotReady, ModelwayError, RolloutAborted, VerificationFailed
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.settings import Settings
from modelway.lineage.record import RolloutRecord
from modelway.operators import _argument_checks as checks
from modelway.operators._base import ModelwayOperator, actor, run_key, store_from
from modelway.operators._checks import Checks
from modelway.operators._traffic import endpoint_of, refuse_held, stable_of, weights_of

GOLDEN_BATCH = 2


class DeployModelOperator(ModelwayOperator):
    """Start a predictor of the version behind the model's endpoint, without traffic, and ask it the golden inputs.

    Where nothing serves yet, the version gets all the traffic, and is taken down again when its answers are wrong.
    A run whose rollout is over deploys nothing again, so that clearing it moves no traffic, and a run whose version is
    older than the one that serves is refused, unless somebody asked for it. A run that may move no traffic, such as one
    of a backfill, is skipped here.

    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param image: what BuildImageOperator returned
    :param target: where versions serve
    :param host: address to listen on
    :param port: port to listen on; None takes a free one and keeps it
    :param path: the model's folder in the image
    :param tolerance: ``{"absolute": …, "relative": …}`` between the predictor's answers and the checkpoint's

    Returns ``{endpoint, target, url, host, port, path, version, weights}``.
    """

    template_fields: Sequence[str] = ("version", "image", "target", "host", "port", "path", "tolerance")
    accepts: ClassVar[Checks] = {
        "version": checks.VERSION,
        "image": checks.IMAGE,
        "target": checks.TARGET,
        "host": checks.HOST,
        "port": checks.PORT,
        "path": checks.IMAGE_PATH,
        "tolerance": checks.TOLERANCE,
    }

    def __init__(
        self,
        *,
        version: Any,
        image: Any,
        target: str = "local",
        host: str = "127.0.0.1",
        port: int | None = None,
        path: str = "/models",
        tolerance: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.image = image
        self.target = target
        self.host = host
        self.port = port
        self.path = path
        self.tolerance = tolerance
        self.check_arguments()

    def run(self, context: Context) -> dict[str, Any]:
        """Bring the version up and check its answers."""
        from modelway.lineage.store import open_store

        refuse_held(self.version)
        settings = settings_from_airflow()
        store = open_store(settings.lineage_url)
        endpoint = endpoint_of(self.target, settings)
        model, number, run = self.version["model"], int(self.version["version"]), run_key(context)
        rollout = store.rollout(model, run)
        current = endpoint.status(model)
        if rollout is not None and rollout.state != "running":
            self.log.info("this run's rollout is %s; nothing is deployed and no traffic moves", rollout.state)
            return self._told(current)
        if rollout is None:
            rollout = self._begin(current, run)
        stable = rollout.detail["stable"]
        status = endpoint.apply(self._spec(current, stable))
        # Before the check: whatever happens from here on, a retry knows which version was the stable one.
        store.save_rollout(rollout, actor=actor(context))
        try:
            difference = self._ask_golden(settings, status)
        except ModelwayError:
            self._take_back(endpoint, status, stable)
            raise
        self.log.info("the golden inputs' answers differ by at most %.3g from the checkpoint's", difference)
        weights = weights_of(status)
        store.record_weights(
            endpoint=model, model=model, weights=weights, actor=actor(context), run_id=context["dag_run"].run_id
        )
        self.log.info("version %d is ready behind %s, weights %s", number, status.url, dict(weights))
        return self._told(status)

    def _begin(self, current: EndpointStatus | None, run: str) -> RolloutRecord:
        """Return this run's rollout.

        :raises RolloutAborted: a newer version serves already
        """
        model, number = self.version["model"], int(self.version["version"])
        stable = stable_of(current)
        if stable is not None and stable > number and not self.version.get("asked"):
            raise RolloutAborted(
                f"version {stable} serves already and is newer than version {number}, which this run made",
                where=f"endpoint {model}",
                do="Trigger a new run, with its parameter version where an old one is to serve again; clearing a run "
                "moves no traffic back",
            )
        detail = {"stable": stable if stable != number else None}
        return RolloutRecord(endpoint=model, run_id=run, model=model, version=number, state="running", detail=detail)

    def _spec(self, current: EndpointStatus | None, stable: int | None) -> EndpointSpec:
        """Return the endpoint with this version beside the stable one; a canary left by another run goes."""
        model, number = self.version["model"], int(self.version["version"])
        before = {predictor.version: predictor for predictor in current.predictors} if current else {}
        weight = before[number].weight if number in before else 0
        mine = Predictor(version=number, image=self.image["reference"], weight=weight)
        predictors: tuple[Predictor, ...] = (replace(mine, weight=100),)
        if stable in before:
            predictors = (Predictor(version=stable, image=before[stable].image, weight=100 - weight), mine)
        return EndpointSpec(
            name=model,
            model=model,
            predictors=predictors,
            stable=predictors[0].version,
            host=self.host,
            port=self.port,
            model_path=self.path,
        )

    def _ask_golden(self, settings: Settings, status: EndpointStatus) -> float:
        """Ask the predictor one golden batch, past the gateway, and return the largest difference.

        :raises VerificationFailed: it answers otherwise than the checkpoint did
        :raises EndpointNotReady: it does not answer
        """
        number = int(self.version["version"])
        url = next(predictor.url for predictor in status.predictors if predictor.version == number)
        with tempfile.TemporaryDirectory() as scratch:
            archive = store_from(settings).fetch(
                Artifact.from_dict(self.version["archive"]), to=Path(scratch) / "archive.zip"
            )
            unpack_archive(archive=archive, to=Path(scratch) / "model")
            return golden_difference(
                url=url,
                model=self.version["model"],
                folder=Path(scratch) / "model",
                **{"absolute": 1e-4, "relative": 1e-3, **(self.tolerance or {})},
            )

    def _take_back(self, endpoint: Endpoint, status: EndpointStatus, stable: int | None) -> None:
        """Take a version down that answers wrongly; it never had traffic unless nothing else serves."""
        number = int(self.version["version"])
        spec = self._spec(status, stable)
        kept = tuple(predictor for predictor in spec.predictors if predictor.version != number)
        if not kept:
            endpoint.delete(status.name)
        elif not weights_of(status)[number]:
            endpoint.apply(replace(spec, predictors=kept))

    def _told(self, status: EndpointStatus | None) -> dict[str, Any]:
        return {
            "endpoint": self.version["model"],
            "target": self.target,
            "url": status.url if status else None,
            "host": self.host,
            "port": self.port,
            "path": self.path,
            "version": int(self.version["version"]),
            "weights": {str(version): weight for version, weight in weights_of(status).items()},
        }


def golden_difference(*, url: str, model: str, folder: Path, absolute: float, relative: float) -> float:
    """Ask a predictor one golden batch over HTTP and return the largest difference from the golden answers.

    :param folder: an unpacked model archive
    :raises VerificationFailed: an answer is missing, refused or too far off
    :raises EndpointNotReady: the predictor does not answer
    """
    import httpx
    import numpy
    from safetensors.numpy import load_file

    inputs = load_file(folder / "golden" / "inputs.safetensors")
    expected = load_file(folder / "golden" / "outputs.safetensors")
    described = json.loads((folder / "outputs" / "model.yml").read_text())
    tensors = [{**each, "array": inputs[f"{GOLDEN_BATCH}/{each['name']}"]} for each in described["inputs"]]
    request = {
        "inputs": [
            {
                "name": each["name"],
                "datatype": each["datatype"],
                "shape": list(each["array"].shape),
                "data": each["array"].flatten().tolist(),
            }
            for each in tensors
        ]
    }
    try:
        answer = httpx.post(f"{url}/v2/models/{model}/infer", json=request, timeout=30)
    except httpx.HTTPError as error:
        raise EndpointNotReady(f"the predictor does not answer ({type(error).__name__}: {error})", where=url) from error
    if answer.status_code != 200:
        raise VerificationFailed(f"the predictor answered {answer.status_code}: {answer.text[:300]}", where=url)
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    largest = 0.0
    for each in described["outputs"]:
        golden = expected[f"{GOLDEN_BATCH}/{each['name']}"].astype("float64")
        given = numpy.array(outputs.get(each["name"], []), dtype="float64")
        if given.size != golden.size or not numpy.allclose(
            given.reshape(golden.shape), golden, atol=absolute, rtol=relative, equal_nan=True
        ):
            raise VerificationFailed(f"the predictor's output '{each['name']}' is not the checkpoint's", where=url)
        largest = max(largest, float(numpy.abs(given.reshape(golden.shape) - golden).max()))
    return largest
