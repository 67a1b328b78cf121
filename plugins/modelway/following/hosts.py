"""What a task may do with a job or an endpoint that is processes of one host, where a deployment has several hosts.

Without a home in common no other host sees them: a task follows its job to its end where it began, and its retry on
another host begins anew.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.backends.base import Job, backend_member
from modelway.endpoints.base import endpoint_member
from modelway.errors import EndpointElsewhere
from modelway.platforms.processes.hosts import has_several_hosts, has_shared_home, own_host

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def stays_in_worker(backend: str) -> bool:
    """Whether only this host can follow a backend's jobs, so that the triggerer, which may be on another, must not."""
    return backend_member(backend).of_host and has_several_hosts() and not has_shared_home()


def is_served_here_alone(target: str) -> bool:
    """Whether only this host can inspect a target's endpoints: others see neither its servers nor its gateway."""
    return endpoint_member(target).of_host and has_several_hosts()


def refuse_elsewhere(store: "Lineage", *, endpoint: str, target: str) -> None:
    """Refuse an endpoint of another host, by the rollouts that the lineage has of it, and never start it twice.

    :raises EndpointElsewhere: it serves there
    """
    own = own_host()
    if not own or not endpoint_member(target).of_host:
        return
    for rollout in store.rollouts(endpoint):
        host = rollout.detail.get("host")
        if rollout.state == "aborted" or not host:
            continue
        if host != own and not store.is_endpoint_stopped(endpoint=endpoint, model=rollout.model):
            raise EndpointElsewhere.of(endpoint, host=str(host), own=own)
        return


@dataclass(frozen=True, kw_only=True)
class JobHost:
    """The host where a task's job was begun, in Airflow's store of the task's state, which all hosts reach."""

    context: Context
    job: Job

    def moved(self) -> str | None:
        """Record that this host has the job; return why that of another host is not found, None where there is none."""
        if "task_state_store" not in self.context:
            return None
        own, store = own_host(), self.context["task_state_store"]
        stored = store.get(self._name)
        store.set(self._name, {"host": own, "attempt": int(self.context["ti"].try_number)})
        if not isinstance(stored, Mapping) or stored.get("host") in (own, None):
            return None
        return (
            f"attempt {stored.get('attempt')} began this job on the host {stored['host']}, whose home is not that of "
            f"this host, {own}: it begins anew here; what still runs there is stopped by the next job of that host"
        )

    @property
    def _name(self) -> str:
        # By the job: the map index may belong to another item after the next expansion.
        return f"host-{hashlib.sha256(self.job.key.encode()).hexdigest()[:16]}"
