"""The gateway's pods: each is changed by its agent, and all of them come to the same routes."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from modelway.endpoints.gateway.commands import Command, refuse_refused
from modelway.endpoints.gateway.container import agent_command, in_container, read_answer
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.gateway.running import RunningGateway
from modelway.endpoints.gateway.runtime_socket import Runtime
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.gateway import CONTAINER, gateway_files
from modelway.endpoints.kubernetes.waiting import is_leaving, is_ready
from modelway.errors import EndpointNotReady, SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes.api import Object
from modelway.platforms.kubernetes.objects import Objects

#: seconds until every pod of the gateway has the routes
_PATIENCE = 60.0
T = TypeVar("T")


class PodAway(EndpointNotReady):
    """A pod of the gateway in which nothing can be run: it has left, or its container is being started again."""


class GatewayPod(RunningGateway):
    """HAProxy in one pod."""

    interval = 0.2

    def __init__(self, name: str, objects: Objects, pod: Object) -> None:
        """Be a pod of the gateway of the endpoint ``name``."""
        super().__init__(name)
        self._objects, self.pod = objects, pod

    @property
    def key(self) -> str:
        """What distinguishes this start of HAProxy: its counts began with it."""
        return str(_haproxy(self.pod).get("containerID") or self.pod["metadata"]["uid"])

    @property
    def runtime(self) -> Runtime:
        """The runtime interface: one execution in the pod for all commands of a change."""
        return Runtime(in_container(self._execute))

    def change(self, commands: Sequence[Command], routes: Routes) -> None:
        """Send the commands, and store what HAProxy finds when its container restarts."""
        answer = read_answer(self._execute(agent_command(commands=commands, files=gateway_files(routes))))
        answers = answer.get("answers")
        refuse_refused(commands, [str(each) for each in answers] if isinstance(answers, list) else [])

    def pages(self, urls: Sequence[str]) -> list[str]:
        """Return what URLs answer as this pod sees them, "" for one that does not."""
        found = read_answer(self._execute(agent_command(pages=urls))).get("pages") if urls else []
        return [str(each) for each in found] if isinstance(found, list) else []

    def _execute(self, command: Sequence[str]) -> str:
        metadata = self.pod["metadata"]
        try:
            return self._objects.run_in(metadata["namespace"], metadata["name"], container=CONTAINER, command=command)
        except SubmitFailed as error:
            if error.kind is FailureKind.FORBIDDEN:
                raise
            raise PodAway(error.what, where=f"endpoint {self.name}", do="Try again") from error


class GatewayPods:
    """All pods of an endpoint's gateway."""

    def __init__(self, objects: Objects, *, namespace: str, endpoint: str) -> None:
        """Find them by their labels."""
        self._objects, self._namespace, self._endpoint = objects, namespace, endpoint

    def all(self) -> list[GatewayPod]:
        """Return the pods that are not leaving, as they are now."""
        return [each for each in self._found() if not is_leaving(each.pod)]

    def _found(self) -> list[GatewayPod]:
        found = self._objects.api.pods(self._namespace, naming.selector(self._endpoint, part=naming.GATEWAY))
        return [GatewayPod(self._endpoint, self._objects, pod) for pod in found]

    def ready(self) -> list[GatewayPod]:
        """Return those that answer."""
        return [each for each in self.all() if is_ready(each.pod)]

    def push(self, routes: Routes, *, renew: Callable[[], None]) -> None:
        """Bring every pod to the routes; one that starts meanwhile has them, or gets them.

        :param renew: called from time to time
        :raises EndpointNotReady: when one does not answer, or finds a predictor that is to get requests not ready
        """
        done: set[str] = set()
        for each in self._found():
            if is_leaving(each.pod):
                # It answers on for some seconds, unless it is gone already.
                with contextlib.suppress(EndpointNotReady):
                    each.push(routes)
        end = time.monotonic() + _PATIENCE
        while True:
            renew()
            pods = self.all()
            for each in pods:
                renew()
                if is_ready(each.pod) and each.key not in done and self._pushed(each, routes, end=end):
                    done.add(each.key)
            if pods and all(each.key in done for each in pods):
                # A pod that came while the others were changed may have started with what was before.
                if {each.key for each in self.all()} <= done:
                    return
            elif time.monotonic() > end:
                late = [each.pod["metadata"]["name"] for each in pods if each.key not in done]
                raise EndpointNotReady(
                    f"pods of the gateway are not ready: {', '.join(late) or 'there are none'}",
                    where=f"endpoint {self._endpoint}",
                    do="Apply the endpoint again",
                )
            time.sleep(0.2)

    def restore(self, routes: Routes, *, renew: Callable[[], None]) -> None:
        """Bring every pod that answers back to former routes, also where others do not."""
        for each in self.all():
            renew()
            with contextlib.suppress(EndpointNotReady):
                each.push(routes)

    def drift(self, routes: Routes) -> tuple[str, ...]:
        """Return a phrase for each pod whose shares are not those of ``routes``; pods that do not answer have none."""
        found = []
        for each in self.ready():
            with contextlib.suppress(EndpointNotReady, SubmitFailed):
                found += [f"pod {each.pod['metadata']['name']}: {what}" for what in each.share_drift(routes)]
        return tuple(found)

    def _pushed(self, pod: GatewayPod, routes: Routes, *, end: float) -> bool:
        """Return whether a pod has the routes; False for one that leaves meanwhile, or is being started again."""
        try:
            pod.push(routes)
        except PodAway:
            if time.monotonic() > end:
                raise
            return False
        return True

    def each(self, do: Callable[[GatewayPod], T]) -> list[tuple[GatewayPod, T]]:
        """Return what comes of something for each pod that answers, but not for one that leaves meanwhile.

        :raises EndpointNotReady: one does not answer, and stays
        """
        found = []
        for pod in self.ready():
            try:
                found.append((pod, do(pod)))
            except PodAway:
                if pod.key in {one.key for one in self.ready()}:
                    raise
        return found

    def wait_empty(self, slot: int, *, patience: float, renew: Callable[[], None]) -> None:
        """Wait until a backend that gets no more requests has answered those it has, ``patience`` seconds at most.

        :param renew: called from time to time
        """
        end = time.monotonic() + patience
        while time.monotonic() < end and not all(empty for _, empty in self.each(lambda pod: pod.is_empty(slot, 0))):
            renew()
            time.sleep(GatewayPod.interval)


def _haproxy(pod: Object) -> Mapping[str, Any]:
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one for one in found if one.get("name") == CONTAINER), {})
