"""The objects and pods of one endpoint: applied, compared, awaited, and removed when they are not wanted."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from modelway.endpoints.base import Predictor
from modelway.endpoints.kubernetes import naming, waiting
from modelway.endpoints.kubernetes.desired import Desired
from modelway.endpoints.kubernetes.predictors import DAEMON_SET, DEPLOYMENT, SERVICE, budget_kind
from modelway.endpoints.kubernetes.record import CONFIG_MAP
from modelway.errors import EndpointNotReady, ImageInvalid, InvalidSpec
from modelway.platforms.kubernetes.api import Manifest, Object
from modelway.platforms.kubernetes.labels import DEPLOYMENT as TOKEN
from modelway.platforms.kubernetes.objects import Kind, Objects, kind_of, owned_fields, title

#: owns the number of pods while it is handed over to a HorizontalPodAutoscaler
_HANDOVER = "modelway-replicas"
_PAUSE = 0.5


class ClusterObjects:
    """The objects of one endpoint."""

    def __init__(
        self, objects: Objects, desired: Desired, *, applied: dict[str, str], renew: Callable[[], None]
    ) -> None:
        """Work on what ``desired`` says.

        :param applied: by title, a digest of the fields that were applied; is changed
        :param renew: called from time to time while something is awaited
        """
        self.objects, self.desired, self.applied, self.renew = objects, desired, applied, renew
        #: seconds in which a pod that cannot start may still find what it lacks
        self.patience = 60.0
        #: of objects that the engine or the routing has besides
        self.more_kinds: list[Kind] = []

    @property
    def where(self) -> str:
        """How messages call the endpoint."""
        return f"endpoint {self.desired.spec.name}"

    def kinds(self) -> list[Kind]:
        """Return the kinds of objects that an endpoint consists of, the record's last."""
        first = [DEPLOYMENT, DAEMON_SET, SERVICE, budget_kind(self.desired.version)]
        return [*dict.fromkeys([*first, *self.more_kinds]), CONFIG_MAP]

    def refuse_foreign(self, manifests: Iterable[Manifest]) -> None:
        """Refuse names that belong to objects which are not of this endpoint.

        :raises InvalidSpec: with the first one
        """
        for manifest in manifests:
            if title(manifest) in self.applied:
                continue
            found = self.objects.find(kind_of(manifest), self.desired.namespace, manifest["metadata"]["name"])
            if found is not None and not self._is_ours(found):
                raise InvalidSpec(
                    f"there is a {title(found)} in namespace {self.desired.namespace} which is not of this endpoint",
                    where=self.where,
                    do="Choose another name or namespace, or remove it",
                )

    def apply(self, manifest: Manifest) -> Object:
        """Apply an object, and remember which fields are ours."""
        self.renew()
        if manifest["kind"] == DEPLOYMENT.kind and "replicas" not in manifest["spec"]:
            self._hand_over_replicas(manifest)
        found = self.objects.apply(manifest)
        self.applied[title(manifest)] = fields_digest(found)
        return found

    def save(self, record: Manifest) -> None:
        """Write the record."""
        self.renew()
        self.objects.apply(record)

    def _hand_over_replicas(self, manifest: Manifest) -> None:
        """Let another manager own the number of pods: a field that its only owner drops falls back to 1."""
        name = manifest["metadata"]["name"]
        found = self.objects.find(DEPLOYMENT, self.desired.namespace, name)
        now = int(((found or {}).get("spec") or {}).get("replicas") or 0)
        if found is None or (now and "f:replicas" not in owned_fields(found, naming.MANAGER).get("f:spec", {})):
            return
        scaling = next(each.autoscaling for each in self.desired.spec.predictors if self.desired.name_of(each) == name)
        assert scaling is not None
        number = min(max(now, scaling.minimum), scaling.maximum)
        partial = {**DEPLOYMENT.manifest(self.desired.namespace, name), "spec": {"replicas": number}}
        self.objects.apply(partial, manager=_HANDOVER)

    def _is_ours(self, found: Object) -> bool:
        labels = found["metadata"].get("labels") or {}
        own = naming.endpoint_labels(self.desired.spec.name, deployment=self.desired.deployment)
        return own.items() <= labels.items()

    def present(self) -> list[Object]:
        """Return all objects of this endpoint that are there."""
        chosen = naming.selector(self.desired.spec.name)
        found = [each for kind in self.kinds() for each in self.objects.select(kind, self.desired.namespace, chosen)]
        return [each for each in found if self._is_ours(each)]

    def prune(self, wanted: Iterable[Manifest]) -> None:
        """Remove what is of this endpoint and no longer wanted, except its record."""
        titles = {title(each) for each in wanted}
        for found in self.present():
            if title(found) not in titles and found["kind"] != CONFIG_MAP.kind:
                # Not if another process changes the endpoint by now: it may want what this one does not.
                self.renew()
                self.objects.delete(found)
                self.applied.pop(title(found), None)
        for name in [name for name in self.applied if name not in titles]:
            del self.applied[name]

    def pods(self, **labels: str) -> list[Object]:
        """Return the pods of the endpoint with more labels of ours."""
        return self.objects.api.pods(self.desired.namespace, naming.selector(self.desired.spec.name, **labels))

    def wait_predictors(
        self, predictors: Sequence[Predictor], *, is_available: Callable[[Predictor], bool], timeout: float
    ) -> None:
        """Wait until all servers of these predictors are as desired, and answer.

        :raises ImageInvalid: a model server cannot use its model
        :raises EndpointNotReady: one is not ready in time, or cannot start
        """
        late = {each.name: each for each in predictors}
        since: dict[str, float] = {}
        end = time.monotonic() + timeout
        while True:
            for name, predictor in list(late.items()):
                if is_available(predictor):
                    del late[name]
                elif time.monotonic() > end:
                    raise self._not_ready(predictor)
                else:
                    self._refuse_broken(predictor, since)
            if not late:
                return
            self.renew()
            time.sleep(_PAUSE)

    def _refuse_broken(self, predictor: Predictor, since: dict[str, float]) -> None:
        for pod in self.pods(predictor=predictor.name):
            if waiting.is_leaving(pod) or not is_of(pod, predictor):
                continue
            if (said := waiting.model_error(pod)) is not None:
                raise ImageInvalid(f"version {predictor.version} cannot be served: {said}", where=self.where)
            found = waiting.waits_for(pod, model_image=predictor.image)
            if found is None or found[0] == "Unschedulable":
                since.pop(pod["metadata"]["name"], None)
                continue
            began = since.setdefault(pod["metadata"]["name"], time.monotonic())
            if found[0] in waiting.HOPELESS or time.monotonic() - began > self.patience:
                raise EndpointNotReady(f"version {predictor.version} does not start, {found[1]}", where=self.where)

    def _not_ready(self, predictor: Predictor) -> EndpointNotReady:
        why = self.problem(predictor)
        what = f"version {predictor.version} is not ready in time"
        return EndpointNotReady(f"{what}, {why}" if why else what, where=self.where, do="Try again, or see its pods")

    def problem(self, predictor: Predictor) -> str:
        """Return why pods of a predictor do not answer, "" where nothing says so."""
        for pod in self.pods(predictor=predictor.name):
            if waiting.is_leaving(pod) or waiting.is_ready(pod):
                continue
            if (said := waiting.model_error(pod)) is not None:
                return said
            if (found := waiting.waits_for(pod, model_image=predictor.image)) is not None:
                return found[1]
        return ""

    def wait_deployment(self, name: str, *, what: str, timeout: float) -> None:
        """Wait until a Deployment is rolled out.

        :raises EndpointNotReady: it is not in time
        """
        end = time.monotonic() + timeout
        while True:
            found = self.objects.find(DEPLOYMENT, self.desired.namespace, name)
            if found is not None and waiting.is_rolled_out(found):
                return
            if time.monotonic() > end:
                pods = self.objects.api.pods(self.desired.namespace, naming.selector(self.desired.spec.name, part=what))
                said = [why[1] for pod in pods if (why := waiting.waits_for(pod, model_image=""))]
                also = f", {said[0]}" if said else ""
                raise EndpointNotReady(f"the {what} is not ready in time{also}", where=self.where, do="Try again")
            self.renew()
            time.sleep(_PAUSE)

    def wait_gone(self, *, timeout: float, **labels: str) -> None:
        """Wait until no such pod is left, ``timeout`` seconds at most."""
        self._wait(lambda: not self.pods(**labels), timeout)

    def wait_ended(self, *, timeout: float, **labels: str) -> None:
        """Wait until nothing runs in such pods, ``timeout`` seconds at most; a node may name them for a minute more."""
        self._wait(lambda: all(map(waiting.has_ended, self.pods(**labels))), timeout)

    def _wait(self, is_over: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        while not is_over() and time.monotonic() < end:
            self.renew()
            time.sleep(_PAUSE)

    def drift(self, wanted: Sequence[Manifest]) -> tuple[str, ...]:
        """Return a phrase for each difference to what was applied that somebody else made."""
        present = {title(each): each for each in self.present()}
        found: list[str] = []
        for manifest in wanted:
            name = title(manifest)
            if name not in self.applied:
                continue
            if name not in present:
                found.append(f"{name} was deleted")
            elif fields_digest(present[name]) != self.applied[name] or not _covers(present[name], manifest):
                # What looks different may be the server's own way of writing it: it is asked only then.
                found += [f"{name}: {field}" for field in self.objects.changes(manifest, present[name])]
        return tuple(found)


def is_of(pod: Object, predictor: Predictor) -> bool:
    """Whether a pod serves this image of a predictor, not one from before."""
    text = json.dumps(pod["spec"])
    return predictor.image in text


def _covers(found: Any, wanted: Any) -> bool:
    """Whether an object has all values of a manifest, as they are written there."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_covers(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_covers, found, wanted))
    return bool(found == wanted)


def fields_digest(found: Object) -> str:
    """Return what changes as soon as somebody else changes a field that was applied."""
    fields = json.dumps(owned_fields(found, naming.MANAGER), sort_keys=True)
    return hashlib.sha256(fields.encode()).hexdigest()[:16]


def token_of(found: Object) -> str | None:
    """Return which Airflow an object belongs to."""
    labels = found["metadata"].get("labels") or {}
    return labels.get(TOKEN)
