"""Deploy a model version beside the one that serves."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import unpack_archive
from modelway.endpoints.base import (
    Change,
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Gradual,
    demanded_token,
    endpoint_member,
    predictor_name,
    remove,
    request_headers,
)
from modelway.errors import ModelwayError, RolloutAborted, SignatureChanged
from modelway.fields.refusal import Refusal
from modelway.following.hosts import is_served_here_alone, refuse_elsewhere
from modelway.hooks.endpoint import open_endpoint
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators._held import check_others_serve
from modelway.operators._rollback import check_rollback, rollback_detail
from modelway.operators._turn import take_turn
from modelway.operators.arguments import platform_refusals, serving_refusals
from modelway.operators.base import skip_when_blocked, translate_errors
from modelway.operators.context import actor, run_key
from modelway.operators.environment_operator import EnvironmentOperator
from modelway.platforms.processes.hosts import own_host
from modelway.runs.deployment import desired_endpoint, make_predictor, predictors_by_hand
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.serving import BuiltImage, Deployment
from modelway.runs.messages.version import RegisteredVersion
from modelway.runs.predictor import breaking_changes, golden_difference, harmless_changes, read_signature
from modelway.runs.traffic import deployed, record_traffic, stable_of, weights_of

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage


class DeployModelOperator(EnvironmentOperator):
    """Start a predictor of the version behind the model's endpoint, without traffic, and send it the golden inputs.

    Where nothing serves yet, the version gets all the traffic, and is stopped again when its answers are wrong.
    A run whose rollout is over deploys nothing again, so that clearing it moves no traffic, and a run whose version is
    older than the one that serves is refused, unless somebody requested it. A run that may move no traffic, such as one
    of a backfill, is skipped here. A version whose inputs or outputs would break the callers of the one that serves is
    refused, unless ``allow_signature_change``. So is an endpoint of another model, and a rollback to a version that
    never had all the traffic of the endpoint.

    Of an endpoint one rollout runs at a time. Where another one is running, this one waits for it, deferred, replaces
    it, or is refused, as ``when_busy`` says; one whose run has ended is closed.

    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param image: what BuildImageOperator returned
    :param target: where versions serve
    :param platform: what only the target knows, as the spec's section ``endpoint.<target>`` has it
    :param serving: how versions are served, as the spec's section ``endpoint`` has it: weight, replicas, resources,
        batching, autoscaling, sticky, mirror, predictors
    :param path: the model's folder in the image
    :param tolerance: ``{"absolute": …, "relative": …}`` between the predictor's answers and the checkpoint's
    :param allow_signature_change: whether the version may have other inputs or outputs than the one that serves
    :param endpoint: the endpoint's name; default: that of the model
    :param when_busy: ``wait``, ``replace`` or ``refuse``, where another rollout of the endpoint is running
    :param environment: the environment to serve in, one of ``environments``
    :param environments: other values of these parameters by environment: ``{"prod": {"target": "kubernetes"}}``

    Returns ``{endpoint, target, url, version, weights}``.
    """

    template_fields: Sequence[str] = (
        *EnvironmentOperator.template_fields,
        *("version", "image", "target", "platform", "serving", "path", "tolerance"),
        *("allow_signature_change", "endpoint", "when_busy"),
    )
    accepts: ClassVar[Checks] = {
        **EnvironmentOperator.accepts,
        "version": checks.VERSION,
        "image": checks.IMAGE,
        "target": checks.TARGET,
        "platform": checks.PLATFORM,
        "serving": checks.SERVING,
        "path": checks.IMAGE_PATH,
        "tolerance": checks.TOLERANCE,
        "allow_signature_change": checks.FLAG,
        "endpoint": checks.ENDPOINT,
        "when_busy": checks.WHEN_BUSY,
    }

    def __init__(
        self,
        *,
        version: Any,
        image: Any,
        target: str = "local",
        platform: Mapping[str, Any] | None = None,
        serving: Mapping[str, Any] | None = None,
        path: str = "/models",
        tolerance: Mapping[str, float] | None = None,
        allow_signature_change: bool = False,
        endpoint: str | None = None,
        when_busy: str = "wait",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.image = image
        self.target = target
        self.platform = platform
        self.serving = serving
        self.path = path
        self.tolerance = tolerance
        self.allow_signature_change = allow_signature_change
        self.endpoint = endpoint
        self.when_busy = when_busy
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return settings that the target's section does not accept, and what the target cannot do."""
        yield from platform_refusals("endpoints", name=self.target, value=self.platform)
        yield from serving_refusals(self.target, self.serving, self.platform)

    def run(self, context: Context, change: Change | None = None) -> Xcom:
        """Start the version and check its answers.

        :param change: of the endpoint, which its platform was making while the task was deferred
        """
        from modelway.following.rollouts import return_traffic
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.lineage.records.rollout import is_finishing
        from modelway.lineage.records.version import RolloutRecord

        version = RegisteredVersion.from_xcom(self.version)
        skip_when_blocked(version)
        store = lineage_from_airflow(self.settings.lineage_url)
        endpoint = open_endpoint(self.target, self.settings, platform=self.platform)
        name, run = self.endpoint or version.model, run_key(context)
        rollout = store.rollout(name, run)
        if rollout is not None and (rollout.state != "running" or is_finishing(rollout)):
            self.log.info("this run's rollout is %s; nothing is deployed and no traffic moves", rollout.state)
            return self._deployment(version, endpoint, endpoint.status(name)).to_xcom()
        if rollout is None:
            refuse_elsewhere(store, endpoint=name, target=self.target)
            check_rollback(context, store, endpoint=name, version=version.version)
            found = endpoint.status(name)
            self._check_model(version, found)
            check_others_serve(context, found, endpoint=name, version=version.version)
            rollout = RolloutRecord(
                endpoint=name, run_id=run, model=version.model, version=version.version, state="running"
            )
            take_turn(self, context, store, rollout, when_busy=self.when_busy)
        # Of rollouts that were closed, by this one or whoever could not return their traffic.
        return_traffic(store, self.settings, endpoint=name, target=self.target, actor=actor(context))
        # Read only now: another rollout may have ended meanwhile.
        current = endpoint.status(name)
        if "stable" not in rollout.detail:
            rollout = self._begin(context, store, version, current, rollout)
        stable = rollout.detail["stable"]
        spec = self._spec(store, version, current, stable)
        status = self._applied(context, endpoint, spec, change)
        try:
            if stable is not None:
                is_allowed = self.allow_signature_change or "rollback" in rollout.detail
                self._compare_signatures(version, endpoint, status, stable, is_allowed=is_allowed)
            difference = self._golden_difference(version, endpoint, status)
        except ModelwayError:
            if not rollout.detail.get("already_served"):
                self._withdraw(version, endpoint, status, spec)
            raise
        self.log.info("the golden inputs' answers differ by at most %.3g from the checkpoint's", difference)
        record_traffic(store, status, actor=actor(context), run_id=context["dag_run"].run_id)
        weights = dict(weights_of(status))
        self.log.info("version %d is ready behind %s, weights %s", version.version, status.url, weights)
        return self._deployment(version, endpoint, status).to_xcom()

    def resume(self, context: Context, event: Any) -> Any:
        """Continue when the endpoint is free, when the version is ready, or to check whether the other rollout runs.

        :raises ModelwayError: what the change of the endpoint failed with meanwhile
        """
        from modelway.triggers.endpoint import failure_of

        with translate_errors(self, context):
            if (error := failure_of(event or {})) is not None:
                raise error
            return self.run(context, Change(**event["change"]) if "change" in (event or {}) else None)

    def _applied(
        self, context: Context, endpoint: Endpoint, spec: EndpointSpec, change: Change | None
    ) -> EndpointStatus:
        """Bring the endpoint to its desired state; deferred where its platform takes minutes for it.

        :raises TaskDeferred: to wait for it
        """
        if not isinstance(endpoint, Gradual):
            return endpoint.apply(spec)
        found = endpoint.advance(spec, change)
        if isinstance(found, EndpointStatus):
            return found
        from modelway.triggers.endpoint import EndpointTrigger

        self.log.info("waiting for %s", found.waits_for)
        trigger = EndpointTrigger(
            target=self.target,
            platform=dict(self.platform or {}),
            spec=asdict(spec),
            change=asdict(found),
            run=run_key(context),
        )
        self.defer(trigger=trigger, method_name="resume")

    def _check_model(self, version: RegisteredVersion, current: EndpointStatus | None) -> None:
        """Refuse the endpoint of another model, such as ``digits-prod`` where ``digits`` has an environment ``prod``.

        :raises RolloutAborted: it is one
        """
        if current is not None and current.model != version.model:
            raise RolloutAborted(
                f"it is the endpoint of the model {current.model}, and not of {version.model}",
                where=f"endpoint {current.name}",
                do="Rename the model, or its environment in endpoint.environments; an endpoint has the name of both",
            )

    def _begin(
        self,
        context: Context,
        store: "Lineage",
        version: RegisteredVersion,
        current: EndpointStatus | None,
        rollout: "RolloutRecord",
    ) -> "RolloutRecord":
        """Record which version is the stable one, so that a retry knows it.

        :raises RolloutAborted: a newer version serves already
        """
        number, stable = version.version, stable_of(current)
        if stable is not None and stable > number and not version.requested:
            error = RolloutAborted(
                f"version {stable} serves already and is newer than version {number}, which this run made",
                where=f"endpoint {rollout.endpoint}",
                do="Trigger a new run, with its parameter version where an old one is to serve again; clearing a run "
                "moves no traffic back",
            )
            detail = {"stable": stable, "reason": error.what}
            store.save_rollout(replace(rollout, state="aborted", detail=detail), actor=actor(context))
            raise error
        host = own_host() if is_served_here_alone(self.target) else ""
        detail = {
            **({"host": host} if host else {}),
            "stable": stable if stable != number else None,
            "already_served": stable == number,
            "target": self.target,
            **({"platform": dict(self.platform or {})} if endpoint_member(self.target).placed else {}),
            **rollback_detail(context, stable),
        }
        rollout = replace(rollout, detail=detail)
        store.save_rollout(rollout, actor=actor(context))
        return rollout

    def _spec(
        self, store: "Lineage", version: RegisteredVersion, current: EndpointStatus | None, stable: int | None
    ) -> EndpointSpec:
        """Return the endpoint with this version beside the stable one, served as the arguments say."""
        from modelway.spec.serving import ServingSection

        serving = ServingSection.model_validate(self.serving or {})
        image = BuiltImage.from_xcom(self.image).reference
        return desired_endpoint(
            make_predictor(version=version.version, image=image, path=self.path, serving=serving),
            name=self.endpoint or version.model,
            model=version.model,
            current=current,
            stable=stable,
            by_hand=predictors_by_hand(store, serving, model=version.model, path=self.path),
            serving=serving,
            platform=self.platform or {},
        )

    def _compare_signatures(
        self,
        version: RegisteredVersion,
        endpoint: Endpoint,
        status: EndpointStatus,
        stable: int,
        *,
        is_allowed: bool,
    ) -> None:
        """Compare inputs and outputs with those of the version that serves.

        :raises SignatureChanged: callers of that version would fail with this one
        """
        model, number = version.model, version.version
        urls = {predictor.version: predictor.url for predictor in deployed(status)}
        if not urls.get(stable) or not urls.get(number):
            return
        serving, new = (
            read_signature(url=urls[each], model=model, version=each, authorised=request_headers(endpoint, urls[each]))
            for each in (stable, number)
        )
        for change in harmless_changes(serving=serving, new=new):
            self.log.info("unlike version %d, which serves: %s", stable, change)
        changes = breaking_changes(serving=serving, new=new)
        if changes and not is_allowed:
            raise SignatureChanged(
                f"version {number} has another signature than version {stable}, which serves: {'; '.join(changes)}",
                where=model,
                do="Keep names, types and shapes as they are, or set rollout.allow_signature_change (parameter "
                "allow_signature_change of DeployModelOperator) once the callers are ready for it",
            )
        for change in changes:
            self.log.warning("callers of version %d meet a change: %s", stable, change)

    def _golden_difference(self, version: RegisteredVersion, endpoint: Endpoint, status: EndpointStatus) -> float:
        """Send the predictor one golden batch, past the gateway, and return the largest difference.

        :raises VerificationFailed: its answers differ from the checkpoint's
        :raises EndpointNotReady: it does not answer
        """
        url = next(predictor.url for predictor in deployed(status) if predictor.version == version.version)
        if not url:
            self.log.warning("the target reaches no version without traffic: the golden inputs are not sent")
            return 0.0
        with tempfile.TemporaryDirectory() as scratch:
            with self.artifacts.open(version.archive) as archive:
                unpack_archive(archive=archive, to=Path(scratch), only=("golden/", "outputs/model.yml"))
            return golden_difference(
                url=url,
                model=version.model,
                folder=Path(scratch),
                authorised=request_headers(endpoint, url),
                **{"absolute": 1e-4, "relative": 1e-3, **(self.tolerance or {})},
            )

    def _withdraw(
        self, version: RegisteredVersion, endpoint: Endpoint, status: EndpointStatus, spec: EndpointSpec
    ) -> None:
        """Stop a version whose answers are wrong; it had no traffic unless nothing else of the pipeline serves."""
        name = predictor_name(version.version)
        others = tuple(each for each in spec.predictors if each.name != name)
        if not any(each.weight for each in others):
            if spec.stable == name:
                remove(endpoint, status.name)
        elif spec.stable == name or not weights_of(status)[version.version]:
            stable = spec.stable if spec.stable != name else None
            endpoint.apply(replace(spec, predictors=others, stable=stable, mirror=None))

    def _deployment(self, version: RegisteredVersion, endpoint: Endpoint, status: EndpointStatus | None) -> Deployment:
        section, url = self.platform or {}, None
        if status is not None and endpoint_member(self.target).placed:
            url = next((each.url for each in deployed(status) if each.version == version.version), None)
        return Deployment(
            endpoint=self.endpoint or version.model,
            target=self.target,
            url=status.url if status else None,
            host=section.get("host") or "127.0.0.1",
            port=section.get("port"),
            path=self.path,
            version=version.version,
            weights={str(number): weight for number, weight in weights_of(status).items()},
            version_url=url,
            authorisation=demanded_token(endpoint, url) if url else None,
        )
