"""Endpoint ``vertex``: see the package. The endpoint's description is its record; nothing is on the worker."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelway.endpoints.base import Change, EndpointSpec, EndpointStatus, Login, PredictorMetrics
from modelway.endpoints.checking import check_spec, check_weights, read_platform
from modelway.endpoints.google.refusals import translated
from modelway.endpoints.google.steps import CONFLICTS, Done, Outdated, Patch, Wait, applied
from modelway.endpoints.released_images import ReleasedImages
from modelway.endpoints.vertex import steps
from modelway.endpoints.vertex.bodies import Desired
from modelway.endpoints.vertex.counts import Counts
from modelway.endpoints.vertex.member import MEMBER
from modelway.endpoints.vertex.observed import Record, Seen
from modelway.endpoints.vertex.place import Place
from modelway.endpoints.vertex.removal import Removal, patched
from modelway.endpoints.vertex.rules import check_own
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.endpoints.whole_percents import whole_percents
from modelway.errors import EndpointNotReady, ModelwayError, UnknownEndpoint
from modelway.platforms.deployment import deployment, known_deployment
from modelway.platforms.google.connection import GoogleConnection, Source
from modelway.platforms.google.errors import GoogleError, LostAnswer
from modelway.platforms.google.operations import read_operation
from modelway.platforms.google.rest import GoogleApi


def open_endpoint(
    *,
    root: Path,
    client: Any,
    platform: Mapping[str, Any],
    login: Login | None = None,
    ready_timeout: float | None = None,
) -> "VertexEndpoint":
    """Return the endpoint of a project and region.

    :param client: the connection, or the API that was opened with it; None: the credentials of the environment
    :param login: of a registry whose images are copied; for Google's, the connection's account is used
    :param platform: the section ``endpoint.vertex``: where endpoints are looked for
    :param ready_timeout: seconds that new versions may take to become ready; None: as the spec says
    """
    api = client if isinstance(client, GoogleApi) else GoogleApi(client or GoogleConnection())
    return VertexEndpoint(
        root=root.absolute(), api=api, place=Place.of(platform, api), ready_timeout=ready_timeout, login=login
    )


@dataclass(kw_only=True)
class VertexEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`, and ``Gradual`` and ``Guarded`` beside it."""

    root: Path
    api: GoogleApi
    #: None where nothing says the region
    place: Place | None
    ready_timeout: float | None = None
    login: Login | None = None
    #: seconds between two looks at what Vertex AI does
    poll_seconds: float = 5.0
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
        desired, place, patience = self._desired(spec)
        memory = steps.Memory(**copy.deepcopy(dict(change.memory))) if change is not None else steps.Memory()
        for _ in range(CONFLICTS):
            failure = self._ended(desired, place, memory)
            seen = None if memory.operations else place.find(spec.name, desired)
            step = failure or steps.next_step(desired, seen, memory, patience=patience)
            if isinstance(step, Done):
                return self._known(spec.name)[2]
            if isinstance(step, Wait | Outdated):
                return memory.change(step)
            if isinstance(step, steps.Fail):
                self._undo(place, spec.name, step)
                raise step.error
            if self._do(place, spec.name, seen, step, memory):
                return self._known(spec.name)[2]
        raise _conflict(spec.name)

    def _desired(self, spec: EndpointSpec) -> tuple[Desired, Place, float]:
        check_spec(spec, target=MEMBER)
        own = read_platform(spec, VertexEndpointSection)
        check_own(spec, own)
        whole_percents({each.name: each.weight for each in spec.predictors}, where=f"endpoint {spec.name}")
        for each in spec.predictors:
            self._images.bring(each.image, own.image_repository, where=f"endpoint {spec.name}, predictor {each.name}")
        # From now on it is looked for here.
        self.place = place = Place.of({"project": own.project, "region": own.region}, self.api)
        assert place is not None
        token = deployment(self.root.parent)
        desired = Desired(spec=spec, own=own, parent=place.parent, deployment=token)
        return desired, place, self.ready_timeout or own.ready_within_seconds

    def _ended(self, desired: Desired, place: Place, memory: steps.Memory) -> steps.Fail | None:
        """Forget the operations that have ended; return what follows where one has failed."""
        for name, what in list(memory.operations.items()):
            try:
                operation = read_operation(self.api, place.SERVICE, name, what=what)
            except GoogleError as error:
                if not error.is_absent:
                    raise
                # Vertex AI has forgotten it: what there is says what it did.
                del memory.operations[name]
                continue
            if operation.done:
                del memory.operations[name]
            if operation.error is not None and not memory.late:
                return steps.failed(desired, place.find(desired.spec.name), what, operation.error)
        return None

    def _do(
        self,
        place: Place,
        name: str,
        seen: Seen | None,
        step: steps.Start | steps.Cancel | Patch,
        memory: steps.Memory,
    ) -> bool:
        """Make one call, and return whether nothing has to follow.

        Where its answer is lost, or somebody else was faster, what there is says what comes next.
        """
        try:
            if isinstance(step, Patch):
                assert seen is not None
                place.patch(seen, step.body, step.mask)
                return False
            if isinstance(step, steps.Cancel):
                for each in step.operations:
                    place.cancel(each)
                return False
            operation = place.start(step.path, step.body, step.params)
            if not operation.get("done") and not step.is_last:
                memory.operations[str(operation["name"])] = step.what
            return step.is_last
        except LostAnswer:
            return False
        except GoogleError as error:
            if error.is_conflict:
                # It is there already, or its operation still runs.
                time.sleep(min(self.poll_seconds, 1.0))
                return False
            raise translated(error, name) from error

    def _undo(self, place: Place, name: str, failed: steps.Fail) -> None:
        """Leave what served before as it was, and nothing that costs and serves nothing."""
        try:
            for deployed_id in failed.undeploy:
                place.start(f"endpoints/{name}:undeployModel", {"deployedModelId": deployed_id}, {})
            if failed.remove:
                place.delete(f"{place.parent}/endpoints/{name}")
        except GoogleError:
            # What failed first is what matters; the next change finds what is left.
            return

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints of this Airflow in the project and region."""
        own = known_deployment(self.root.parent)
        if self.place is None or own is None:
            return ()
        endpoints = self.place.endpoints()
        return tuple(sorted(seen.name for seen in endpoints if seen.owner == own and not seen.is_retired))

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        found = self._find(name)
        return None if found is None else found[2]

    def _owned(self, name: str) -> Seen | None:
        """Return an endpoint, also a retired one; None where there is none of this Airflow."""
        own = known_deployment(self.root.parent)
        seen = self.place.find(name) if self.place is not None and own is not None else None
        return seen if seen is not None and seen.owner == own else None

    def _find(self, name: str) -> tuple[Place, Seen, EndpointStatus] | None:
        """Return an endpoint; None where there is none of this Airflow."""
        seen = self._owned(name)
        if seen is None or self.place is None or seen.is_retired:
            return None
        return self.place, seen, self._status(seen)

    def _status(self, seen: Seen) -> EndpointStatus:
        record = seen.record()
        return seen.status(self._of(record), record)

    def _known(self, name: str) -> tuple[Place, Seen, EndpointStatus]:
        found = self._find(name)
        if found is None:
            where = str(self.place) if self.place is not None else "Vertex AI, in no region"
            raise UnknownEndpoint(f"there is no endpoint '{name}'", where=where, known=self.names(), given=name)
        return found

    def _of(self, record: Record) -> Desired:
        """Return an endpoint as it is recorded."""
        own = read_platform(record.spec, VertexEndpointSection)
        assert self.place is not None
        token = deployment(self.root.parent)
        return Desired(spec=record.spec, own=own, parent=self.place.parent, deployment=token)

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step."""
        for _ in range(CONFLICTS):
            place, seen, status = self._known(name)
            check_weights(weights, [each.name for each in status.predictors], where=f"endpoint {name}")
            for each in status.predictors:
                if weights.get(each.name) and not each.ready:
                    what = f"version {each.version} is not ready"
                    raise EndpointNotReady(what, where=f"endpoint {name}", do="Apply the endpoint")
            desired = self._of(seen.record())
            changed = tuple(replace(each, weight=weights.get(each.name, 0)) for each in desired.spec.predictors)
            spec = replace(desired.spec, predictors=changed)
            split = replace(desired, spec=spec).split(seen.ids(desired))
            if split == seen.split:
                return status
            if patched(place, seen, {"trafficSplit": split}, ("trafficSplit",)):
                return self._known(name)[2]
        raise _conflict(name)

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the endpoint was changed last, minutes late."""
        place, seen, status = self._known(name)
        if status.stopped:
            raise EndpointNotReady("it is stopped", where=f"endpoint {name}", do="Start it, or apply it")
        return self._counts.read(seen, seen.ids(self._of(seen.record())), project=place.project)

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was."""
        return self.apply(self._known(name)[2].spec())

    def stop(self, name: str) -> None:
        """Undeploy all models, so that no machine is left; the endpoint keeps its address and its record."""
        if self._find(name) is not None:
            self._removal(name).empty()

    def retire(self, name: str) -> None:
        """Undeploy all models without waiting; what is left costs nothing, and the next deployment uses it."""
        if self._owned(name) is not None and not self._removal(name).begin():
            raise _conflict(name)

    def delete(self, name: str) -> None:
        """Remove the endpoint and the models that were uploaded for it, and wait until they are gone."""
        if self._owned(name) is not None:
            self._removal(name).remove()

    def _removal(self, name: str) -> Removal:
        assert self.place is not None
        return Removal(
            place=self.place,
            name=name,
            find=lambda: self._owned(name),
            spec_of=lambda seen: self._status(seen).spec(),
            poll_seconds=self.poll_seconds,
        )

    def request_headers(self, url: str) -> Mapping[str, str]:
        """Return the headers of a call of Google's APIs: the endpoint's addresses check them, too."""
        return self.api.credentials.headers()

    def demanded_token(self, url: str) -> Mapping[str, str] | None:
        """Return what kind of token the endpoint demands."""
        return None if self.api.connection.source is Source.ANONYMOUS else {"kind": "access"}


def _conflict(name: str) -> ModelwayError:
    return EndpointNotReady("others changed it each time in between", where=f"endpoint {name}", do="Try again")
