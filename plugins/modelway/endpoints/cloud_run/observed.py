"""A service of Cloud Run as it is: its revisions, its split, and what they say of themselves; pure functions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.endpoints.base import EndpointStatus, Predictor, PredictorStatus, Sticky
from modelway.endpoints.cloud_run.template import DEPLOYMENT, ENDPOINT, PREDICTOR, Object, tag_of, target
from modelway.endpoints.plain import read_predictor
from modelway.errors import DigestMismatch

_READY, _ROUTES = "Ready", "RoutesReady"
_FAILED, _SUCCEEDED = "CONDITION_FAILED", "CONDITION_SUCCEEDED"
#: what Cloud Run says of a container that cannot serve, however often it is started
_BROKEN = ("HEALTH_CHECK_CONTAINER_ERROR", "CONTAINER_MISSING")
_READER = "Grant roles/artifactregistry.reader on the image's repository to Cloud Run's service agent"
#: why a revision cannot begin, to what to do
_DO = {
    "CONTAINER_MISSING": "Check that the image is pushed, or set cloud_run.image_repository, which has it copied",
    "CONTAINER_PERMISSION_DENIED": f"{_READER} (service-PROJECT_NUMBER@serverless-robot-prod.iam.gserviceaccount.com)",
    "CONTAINER_IMAGE_UNAUTHORIZED": "Have the project's policy of Binary Authorization admit the image",
    "CONTAINER_IMAGE_AUTHORIZATION_CHECK_FAILED": "Check the project's policy of Binary Authorization, then try again",
    "ENCRYPTION_KEY_PERMISSION_DENIED": "Grant roles/cloudkms.cryptoKeyEncrypterDecrypter on cloud_run.kms_key to "
    "Cloud Run's service agent",
    "ENCRYPTION_KEY_CHECK_FAILED": "Check that cloud_run.kms_key is there and enabled, then try again",
    "VPC_NETWORK_NOT_FOUND": "Check cloud_run.network and subnet: the subnet is in the service's region",
    "ACTIVE_REVISION_LIMIT_REACHED": "Remove tags and old services: fewer revisions of the region may be active",
}


@dataclass(frozen=True)
class Seen:
    """A service and those of its revisions that were requested with it."""

    service: Object
    revisions: Mapping[str, Object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the service."""
        return str(self.service["name"]).rpartition("/")[2]

    @property
    def owner(self) -> str | None:
        """The deployment of modelway that made it."""
        found = (self.service.get("labels") or {}).get(DEPLOYMENT)
        return None if found is None else str(found)

    @property
    def is_changing(self) -> bool:
        """Whether Cloud Run is still making a change: what it says of the split then is transient."""
        return bool(self.service.get("reconciling"))

    @property
    def is_leaving(self) -> bool:
        """Whether it was removed, and Cloud Run has not ended that."""
        return bool(self.service.get("deleteTime"))

    @property
    def wanted(self) -> list[Object]:
        """The split that was requested, with every value written out."""
        return [_written(each) for each in self.service.get("traffic") or ()]

    @property
    def actual(self) -> list[Object]:
        """The split that is served."""
        return [_written(each) for each in self.service.get("trafficStatuses") or ()]

    @property
    def is_stopped(self) -> bool:
        """Whether it has no instance by request."""
        scaling = self.service.get("scaling") or {}
        return scaling.get("scalingMode") == "MANUAL" and not scaling.get("manualInstanceCount")

    @property
    def follows_latest(self) -> bool:
        """Whether a new revision would get requests at once."""
        return any("revision" not in each for each in self.wanted) or not self.wanted

    def is_split(self, traffic: list[Object]) -> bool:
        """Return whether requests are split so."""
        return not self.is_changing and _shape(self.wanted) == _shape(self.actual) == _shape(traffic)

    def is_requested(self, traffic: list[Object]) -> bool:
        """Return whether this split was requested, served already or not."""
        return _shape(self.wanted) == _shape(traffic)

    def pinned(self) -> list[Object]:
        """Return the split that is served, by revisions, whatever was requested."""
        latest = str(self.service.get("latestReadyRevision") or "").rpartition("/")[2]
        served = ((each.get("revision") or latest, each) for each in self.actual)
        return [target(revision, each["percent"], tag=each.get("tag")) for revision, each in served if revision]

    @property
    def shares(self) -> dict[str, int]:
        """The split that is served, per cents by revision."""
        return _shape(self.pinned())[0]

    def predictors(self) -> list[tuple[Object, Predictor]]:
        """Return the targets of the served split that are predictors', each with its own.

        A tag that was set by hand is none: it is on the latest revision, on one that modelway did not make, or it is
        not the tag of the revision's predictor.

        :raises DigestMismatch: what was recorded of a predictor cannot be read
        """
        found = []
        for each in self.actual:
            revision = self.revisions.get(each.get("revision", ""))
            if not each.get("tag") or PREDICTOR not in ((revision or {}).get("annotations") or {}):
                continue
            recorded = _json(revision or {}, PREDICTOR, where=f"revision {each['revision']}")
            predictor = read_predictor(recorded, weight=each["percent"])
            if each["tag"] == tag_of(self.name, predictor.name):
                found.append((each, predictor))
        return found

    def drift(self) -> tuple[str, ...]:
        """Return what was changed by hand: tags that are no predictor's, and requests that no predictor gets."""
        if self.is_changing:
            return ()
        own = [each for each, _ in self.predictors()]
        return tuple(_foreign(each) for each in self.actual if each not in own and (each["percent"] or each.get("tag")))

    def url_of(self, tag: str | None) -> str:
        """Return the URL that a tag alone is reached by."""
        for each in self.service.get("trafficStatuses") or ():
            if tag and each.get("tag") == tag:
                return str(each.get("uri") or "")
        return ""

    def recorded(self) -> Object:
        """Return what was recorded of the endpoint.

        :raises DigestMismatch: somebody changed it, so that it cannot be read
        """
        return _json(self.service, ENDPOINT, where=f"Cloud Run service {self.name}")

    def status(self) -> EndpointStatus:
        """Return the endpoint as it is.

        :raises DigestMismatch: what was recorded of it cannot be read
        """
        recorded, stopped = self.recorded(), self.is_stopped
        predictors = tuple(self._predictor(each, made, stopped=stopped) for each, made in self.predictors())
        answers = not stopped and bool(self.service.get("uri")) and bool(predictors)
        return EndpointStatus(
            name=self.name,
            model=recorded["model"],
            url=str(self.service.get("uri") or ""),
            predictors=predictors,
            stable=recorded["stable"],
            sticky=Sticky(**recorded["sticky"]) if recorded.get("sticky") else Sticky(),
            platform=recorded["platform"],
            ready=answers and all(one.ready for one in predictors if one.weight),
            gateway_ready=answers,
            stopped=stopped,
            problem="" if answers or stopped else said(self.service),
            drift=self.drift(),
        )

    def _predictor(self, each: Object, made: Predictor, *, stopped: bool) -> PredictorStatus:
        revision = self.revisions[each["revision"]]
        ready = not stopped and is_ready(revision)
        return PredictorStatus(
            name=made.name,
            version=made.version,
            model=made.model,
            image=made.image,
            model_path=made.model_path,
            weight=made.weight,
            ready=ready,
            url=self.url_of(each["tag"]),
            replicas=made.replicas,
            ready_replicas=int(ready),
            resources=made.resources,
            batching=made.batching,
            autoscaling=made.autoscaling,
            problem="" if ready or stopped else said(revision),
        )


def is_ready(revision: Mapping[str, Any]) -> bool:
    """Return whether a revision can get requests; one without any has no instance meanwhile."""
    return _condition(revision, _READY).get("state") == _SUCCEEDED


def has_failed(revision: Mapping[str, Any]) -> bool:
    """Return whether a revision will not become ready by itself."""
    return _condition(revision, _READY).get("state") == _FAILED


def is_broken(revision: Mapping[str, Any]) -> bool:
    """Return whether it is its image that keeps a revision from becoming ready."""
    return any(
        each.get(key) in _BROKEN
        for each in revision.get("conditions") or ()
        if each.get("state") == _FAILED
        for key in ("reason", "revisionReason")
    )


def advice(revision: Mapping[str, Any]) -> str:
    """Return what to do about a revision that is not ready, by the reason that Cloud Run gives; empty without one."""
    reasons = (
        each.get(key)
        for each in revision.get("conditions") or ()
        if each.get("state") == _FAILED
        for key in ("reason", "revisionReason")
    )
    return next((_DO[reason] for reason in reasons if reason in _DO), "")


def said(resource: Mapping[str, Any]) -> str:
    """Return what Cloud Run says of a service or revision that is not ready."""
    found = [resource.get("terminalCondition") or {}, *(resource.get("conditions") or ())]
    messages = [" ".join(str(each["message"]).split()) for each in found if each.get("message")]
    return next(iter(messages), "it is not ready, and Cloud Run does not say why")


def _foreign(each: Object) -> str:
    """Return what is wrong with a target that is no predictor's."""
    revision, tag = each.get("revision") or "the latest revision", each.get("tag")
    if not each["percent"]:
        return f"the tag '{tag}' is on {revision}"
    with_tag = f"the tag '{tag}', which is no version's" if tag else "no tag"
    return f"{each['percent']} % of the requests go to {revision}, which has {with_tag}"


def _condition(resource: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in resource.get("conditions") or () if each.get("type") == kind), {})


def _written(each: Mapping[str, Any]) -> Object:
    """Return a target as it is compared: an answer leaves 0 out."""
    found = {key: each[key] for key in ("type", "revision", "tag") if each.get(key)}
    return {**found, "percent": int(each.get("percent") or 0)}


def _shape(traffic: list[Object]) -> tuple[dict[str, int], dict[str, str]]:
    """Return per cents by revision and revisions by tag, in whichever entries and order they are written."""
    percents: dict[str, int] = {}
    for each in traffic:
        if each["percent"]:
            revision = each.get("revision", "")
            percents[revision] = percents.get(revision, 0) + each["percent"]
    return percents, {each["tag"]: each.get("revision", "") for each in traffic if each.get("tag")}


def _json(resource: Mapping[str, Any], key: str, *, where: str) -> Object:
    try:
        found = json.loads((resource.get("annotations") or {})[key])
        if not isinstance(found, dict):
            raise TypeError("it is no object")
        return found
    except (KeyError, TypeError, ValueError) as error:
        what = f"the annotation {key} cannot be read ({type(error).__name__}: {error})"
        raise DigestMismatch(what, where=where, do="Delete the service, and deploy again") from error
