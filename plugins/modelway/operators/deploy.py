"""Deploy a model version beside the one that serves."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import unpack_archive
from modelway.artifacts.store import Artifact
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Predictor
from modelway.errors import ModelwayError, RolloutAborted, SignatureChanged
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.settings import Settings
from modelway.lineage.records.version import RolloutRecord
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator, refuse_held
from modelway.operators.context import actor, run_key
from modelway.runs.predictor import breaking_changes, golden_difference, harmless_changes, read_signature
from modelway.runs.traffic import record_traffic, stable_of, weights_of


class DeployModelOperator(ModelwayOperator):
    """Start a predictor of the version behind the model's endpoint, without traffic, and ask it the golden inputs.

    Where nothing serves yet, the version gets all the traffic, and is taken down again when its answers are wrong.
    A run whose rollout is over deploys nothing again, so that clearing it moves no traffic, and a run whose version is
    older than the one that serves is refused, unless somebody asked for it. A run that may move no traffic, such as one
    of a backfill, is skipped here. A version whose inputs or outputs would break the callers of the one that serves is
    refused, unless ``allow_signature_change``.

    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param image: what BuildImageOperator returned
    :param target: where versions serve
    :param host: address to listen on
    :param port: port to listen on; None takes a free one and keeps it
    :param path: the model's folder in the image
    :param tolerance: ``{"absolute": …, "relative": …}`` between the predictor's answers and the checkpoint's
    :param allow_signature_change: whether the version may have other inputs or outputs than the one that serves

    Returns ``{endpoint, target, url, host, port, path, version, weights}``.
    """

    template_fields: Sequence[str] = (
        *("version", "image", "target", "host", "port", "path", "tolerance"),
        "allow_signature_change",
    )
    accepts: ClassVar[Checks] = {
        "version": checks.VERSION,
        "image": checks.IMAGE,
        "target": checks.TARGET,
        "host": checks.HOST,
        "port": checks.PORT,
        "path": checks.IMAGE_PATH,
        "tolerance": checks.TOLERANCE,
        "allow_signature_change": checks.FLAG,
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
        allow_signature_change: bool = False,
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
        self.allow_signature_change = allow_signature_change
        self.check_arguments()

    def run(self, context: Context) -> dict[str, Any]:
        """Bring the version up and check its answers."""
        from modelway.hooks.lineage import lineage_from_airflow

        refuse_held(self.version)
        settings = self.settings
        store = lineage_from_airflow(settings.lineage_url)
        endpoint = open_endpoint(self.target, settings)
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
            if stable is not None:
                self._compare_signatures(status, stable)
            difference = self._ask_golden(settings, status)
        except ModelwayError:
            self._take_back(endpoint, status, stable)
            raise
        self.log.info("the golden inputs' answers differ by at most %.3g from the checkpoint's", difference)
        record_traffic(store, status, actor=actor(context), run_id=context["dag_run"].run_id)
        self.log.info("version %d is ready behind %s, weights %s", number, status.url, dict(weights_of(status)))
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

    def _compare_signatures(self, status: EndpointStatus, stable: int) -> None:
        """Compare what goes in and comes out with the version that serves.

        :raises SignatureChanged: callers of that version would fail with this one
        """
        model, number = self.version["model"], int(self.version["version"])
        urls = {predictor.version: predictor.url for predictor in status.predictors}
        if stable not in urls:
            return
        serving, new = (read_signature(url=urls[each], model=model, version=each) for each in (stable, number))
        for change in harmless_changes(serving=serving, new=new):
            self.log.info("unlike version %d, which serves: %s", stable, change)
        changes = breaking_changes(serving=serving, new=new)
        if changes and not self.allow_signature_change:
            raise SignatureChanged(
                f"version {number} has another signature than version {stable}, which serves: {'; '.join(changes)}",
                where=model,
                do="Keep names, types and shapes as they are, or set rollout.allow_signature_change (parameter "
                "allow_signature_change of DeployModelOperator) once the callers are ready for it",
            )
        for change in changes:
            self.log.warning("callers of version %d meet a change: %s", stable, change)

    def _ask_golden(self, settings: Settings, status: EndpointStatus) -> float:
        """Ask the predictor one golden batch, past the gateway, and return the largest difference.

        :raises VerificationFailed: it answers otherwise than the checkpoint did
        :raises EndpointNotReady: it does not answer
        """
        number = int(self.version["version"])
        url = next(predictor.url for predictor in status.predictors if predictor.version == number)
        with tempfile.TemporaryDirectory() as scratch:
            archive = self.artifacts.fetch(
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
