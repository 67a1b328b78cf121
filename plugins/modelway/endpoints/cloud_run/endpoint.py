"""Endpoint ``cloud_run``: see the package. The service is its own record; nothing is on the worker."""

import copy
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelway.endpoints.base import Change, EndpointSpec, EndpointStatus, Login, Predictor, PredictorMetrics
from modelway.endpoints.checking import check_spec, check_weights, read_platform
from modelway.endpoints.cloud_run import settling, steps
from modelway.endpoints.cloud_run.counts import Counts
from modelway.endpoints.cloud_run.member import MEMBER
from modelway.endpoints.cloud_run.observed import Seen, has_failed
from modelway.endpoints.cloud_run.place import Place
from modelway.endpoints.cloud_run.rules import check_own
from modelway.endpoints.cloud_run.section import CloudRunSection
from modelway.endpoints.cloud_run.template import Desired, Object, target
from modelway.endpoints.google.refusals import translated
from modelway.endpoints.google.steps import CONFLICTS, Done, Outdated, Patch, Wait, applied
from modelway.endpoints.released_images import ReleasedImages
from modelway.endpoints.whole_percents import whole_percents
from modelway.errors import EndpointNotReady, ModelwayError, UnknownEndpoint
from modelway.platforms.deployment import deployment, known_deployment
from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.errors import GoogleError, LostAnswer
from modelway.platforms.google.rest import GoogleApi

#: of one predictor, each of which failed before a change began
_MOST_ATTEMPTS = 20


def open_endpoint(
    *,
    root: Path,
    client: Any,
    platform: Mapping[str, Any],
    login: Login | None = None,
    ready_timeout: float | None = None,
) -> "CloudRunEndpoint":
    """Return the endpoint of a project and region.

    :param client: the connection, or the API that was opened with it; None: the credentials of the environment
    :param login: of a registry whose images are copied; for Google's, the connection's account is used
    :param platform: the section ``endpoint.cloud_run``: where endpoints are looked for
    :param ready_timeout: seconds that new versions may take to become ready; None: as the spec says
    """
    api = client if isinstance(client, GoogleApi) else GoogleApi(client or GoogleConnection())
    place = Place.of(platform, api)
    return CloudRunEndpoint(root=root.absolute(), api=api, place=place, ready_timeout=ready_timeout, login=login)


@dataclass(kw_only=True)
class CloudRunEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`, and ``Gradual`` and ``Guarded`` beside it."""

    root: Path
    api: GoogleApi
    #: None where nothing says the region
    place: Place | None
    ready_timeout: float | None = None
    login: Login | None = None
    #: seconds between two looks at what Cloud Run does
    poll_seconds: float = 2.0
    _counts: Counts = field(init=False)
    _images: ReleasedImages = field(init=False)

    def __post_init__(self) -> None:
        """Count and copy nothing yet."""
        self._counts = Counts(self.api)
        self._images = ReleasedImages(self.api, self.login)

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Bring the endpoint to the state of ``spec``."""
        return applied(self, spec)

    def advance(self, spec: EndpointSpec, change: Change | None = None) -> EndpointStatus | Change:
        """Do what can be done now for the endpoint to become what ``spec`` says."""
        desired, patience = self._desired(spec)
        place = self._at(desired.own)
        memory = steps.Memory(**copy.deepcopy(dict(change.memory))) if change is not None else None
        for _ in range(CONFLICTS):
            names, seen, memory = self._inspect(desired, place, memory)
            step = steps.next_step(desired, seen, names, memory, patience=patience)
            if isinstance(step, Done):
                return self._status(place, spec.name)
            if isinstance(step, Wait | Outdated):
                return memory.change(step)
            if isinstance(step, steps.Fail):
                settling.undo(place, seen, step)
                raise step.error
            self._do(place, spec.name, seen, step)
        raise _conflict(spec.name)

    def _desired(self, spec: EndpointSpec) -> tuple[Desired, float]:
        check_spec(spec, target=MEMBER)
        own = read_platform(spec, CloudRunSection)
        check_own(spec, own)
        whole_percents({each.name: each.weight for each in spec.predictors}, where=f"endpoint {spec.name}")
        for each in spec.predictors:
            self._images.bring(each.image, own.image_repository, where=f"endpoint {spec.name}, predictor {each.name}")
        desired = Desired(spec=spec, own=own, deployment=deployment(self.root.parent))
        return desired, self.ready_timeout or own.ready_within_seconds

    def _at(self, own: CloudRunSection) -> Place:
        """Return where a spec's endpoint is, which is where it is looked for from now on."""
        self.place = Place.of({"project": own.project, "region": own.region}, self.api)
        assert self.place is not None
        return self.place

    def _inspect(
        self, desired: Desired, place: Place, memory: steps.Memory | None
    ) -> tuple[dict[str, str], Seen | None, steps.Memory]:
        """Return the names of the predictors' revisions, and the service with those that there are.

        At the begin of a change a revision that has failed is none of them: another one is made in its place.

        :raises EndpointNotReady: too many have failed
        """
        service = place.find(desired.spec.name)
        begins, found = memory is None, memory or steps.Memory()
        names, revisions = {}, {}
        for each in desired.spec.predictors:
            for attempt in range(1, _MOST_ATTEMPTS):
                name = desired.name_of(each, attempt)
                if name in found.failed:
                    continue
                revision = place.revision(desired.spec.name, name) if service is not None else None
                if revision is not None and begins and has_failed(revision):
                    found.failed.append(name)
                    continue
                names[each.name] = name
                if revision is not None:
                    revisions[name] = revision
                break
            else:
                raise _exhausted(desired, each)
        return names, None if service is None else Seen(service, revisions), found

    def _do(self, place: Place, name: str, seen: Seen | None, step: steps.Create | Patch) -> None:
        """Make one call; where its answer is lost, or somebody else was faster, what there is says what comes next."""
        try:
            if isinstance(step, steps.Create):
                place.create(name, step.body)
            elif seen is not None:
                place.patch(seen, step.body, step.mask)
        except LostAnswer:
            return
        except GoogleError as error:
            if not error.is_conflict:
                raise translated(error, name) from error
            self._pause()

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints of this Airflow in the project and region."""
        own = known_deployment(self.root.parent)
        if self.place is None or own is None:
            return ()
        services = self.place.services()
        return tuple(sorted(seen.name for seen in services if seen.owner == own and not seen.is_leaving))

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        seen = self._find(name)
        return None if seen is None else seen.status()

    def _status(self, place: Place, name: str) -> EndpointStatus:
        seen = place.seen(name)
        if seen is None:
            raise EndpointNotReady("somebody deleted its service meanwhile", where=f"endpoint {name}", do="Try again")
        return seen.status()

    def _find(self, name: str) -> Seen | None:
        """Return the service of an endpoint; None where there is none of this Airflow."""
        own = known_deployment(self.root.parent)
        seen = self.place.seen(name) if self.place is not None and own is not None else None
        return seen if seen is not None and seen.owner == own and not seen.is_leaving else None

    def _known(self, name: str) -> tuple[Place, Seen]:
        seen = self._find(name)
        if seen is None or self.place is None:
            where = str(self.place) if self.place is not None else "Cloud Run, in no region"
            raise UnknownEndpoint(f"there is no endpoint '{name}'", where=where, known=self.names(), given=name)
        return self.place, seen

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step."""
        for _ in range(CONFLICTS):
            place, seen = self._known(name)
            status = seen.status()
            check_weights(weights, [each.name for each in status.predictors], where=f"endpoint {name}")
            for each in status.predictors:
                if weights.get(each.name) and not each.ready:
                    what = f"version {each.version} is not ready"
                    raise EndpointNotReady(what, where=f"endpoint {name}", do="Apply the endpoint")
            traffic = _with_weights(seen, weights)
            if seen.is_split(traffic):
                return status
            if settling.moved(place, seen, traffic, poll_seconds=self.poll_seconds):
                return self._status(place, name)
            self._pause()
        raise _conflict(name)

    def _pause(self) -> None:
        """Wait for a moment after somebody else was faster, each caller for another one."""
        time.sleep(random.uniform(0, min(self.poll_seconds, 1.0)))

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the split was changed last, minutes late."""
        place, seen = self._known(name)
        if seen.is_stopped:
            raise EndpointNotReady("it is stopped", where=f"endpoint {name}", do="Start it, or apply it")
        return self._counts.read(seen, project=place.project)

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was."""
        return self.apply(self._known(name)[1].status().spec())

    def stop(self, name: str) -> None:
        """Let the service have no instance; its URL, revisions and split stay."""
        scaling = {"scalingMode": "MANUAL", "manualInstanceCount": 0}
        for _ in range(CONFLICTS):
            seen = self._find(name)
            if seen is None or self.place is None or (seen.is_stopped and not seen.is_changing):
                return
            if seen.is_stopped or settling.changed(self.place, seen, {"scaling": scaling}, ("scaling",)):
                settling.settled(self.place, name, poll_seconds=self.poll_seconds)
        raise _conflict(name)

    def retire(self, name: str) -> None:
        """Begin to remove the service; Cloud Run ends it by itself."""
        if self._find(name) is not None and self.place is not None:
            self.place.delete(name)

    def delete(self, name: str) -> None:
        """Remove the service with its revisions and wait until it is gone."""
        if self._find(name) is None or self.place is None:
            return
        settling.remove(self.place, name, poll_seconds=self.poll_seconds)

    def request_headers(self, url: str) -> Mapping[str, str]:
        """Return an ID token for the service of a URL, also where anybody may call it."""
        return self.api.credentials.identity(_audience(url))

    def demanded_token(self, url: str) -> Mapping[str, str] | None:
        """Return what kind of token the service demands."""
        if self.api.connection.source is Source.ANONYMOUS:
            return None
        return {"kind": "identity", "audience": _audience(url)}


def _audience(url: str) -> str:
    """Return the URL of the service, also for a tag's."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('---')[2]}"


def _with_weights(seen: Seen, weights: Mapping[str, int]) -> list[Object]:
    own = seen.predictors()
    wanted = {each.name: weights.get(each.name, 0) for _, each in own}
    percents = whole_percents(wanted, where=f"endpoint {seen.name}")
    # Of tags that are not ours, and of what was changed by hand, nothing is left: the split is the predictors'.
    return [target(each["revision"], percents[made.name], tag=each["tag"]) for each, made in own]


def _exhausted(desired: Desired, predictor: Predictor) -> ModelwayError:
    error = EndpointNotReady(
        f"{_MOST_ATTEMPTS - 1} revisions of {predictor.name} have failed, all with the same image and settings",
        where=f"endpoint {desired.spec.name}",
        do="Read their logs, then deploy another version, or change its settings",
    )
    error.retryable = False
    return error


def _conflict(name: str) -> ModelwayError:
    return EndpointNotReady(
        "others changed its service each time in between", where=f"endpoint {name}", do="Try again when they are done"
    )
