"""An endpoint as its page shows it, and what can be done with its traffic."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.records.rollout import is_finishing
from modelway.lineage.records.version import RolloutRecord, WeightChange
from modelway.names import endpoint_name


@dataclass(frozen=True)
class EndpointView:
    """Who serves, how that came about, and the rollouts, all newest first."""

    name: str
    shares: tuple[ServingRecord, ...]
    changes: tuple[WeightChange, ...]
    rollouts: tuple[RolloutRecord, ...]

    @cached_property
    def running(self) -> RolloutRecord | None:
        """The rollout that is running; None: there is none, or it has passed all steps and nothing ends it any more."""
        return next((each for each in self.rollouts if each.state == "running" and not is_finishing(each)), None)

    @property
    def model(self) -> str:
        """The model whose DAG moves the traffic: that of the newest rollout, else of the newest change."""
        return (self.rollouts or self.changes)[0].model

    def actions(self, *, before: int | None, environment: str | None) -> dict[str, Any]:
        """Return the calls of Airflow's API that act on the traffic, as the page's script makes them.

        They are made in the browser with the user's own session: Airflow decides who may do it.

        :param before: the version that served before; None: there is nothing to return to
        :param environment: the name under which the model's spec has the endpoint
        """
        conf = {"environment": environment} if environment else {}
        found: dict[str, Any] = {"dag": self.model, "release": {**conf, "rollout": "yes"}}
        if self.running is not None:
            dag, _, run = self.running.run_id.partition("/")
            found["end"] = {"dag": dag, "run": run}
        elif before is not None and not any(each.state == "running" for each in self.rollouts):
            found["rollback"] = {**conf, "rollout": "rollback", "version": str(before)}
        return found


def environments_by_endpoint(spec: Mapping[str, Any], model: str) -> dict[str, str | None]:
    """Return the endpoints of a recorded spec with the name of each one's environment; None where it has none."""
    section = spec.get("endpoint")
    names = list(section.get("environments") or ()) if isinstance(section, Mapping) else []
    if len(names) > 1:
        return {endpoint_name(model, name): name for name in names}
    return {model: names[0] if names else None}
