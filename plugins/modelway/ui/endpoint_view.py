"""An endpoint as its page shows it, and what can be done with its traffic."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.records.monitoring import MonitorSlice
from modelway.lineage.records.rollout import is_finishing, planned_share
from modelway.lineage.records.version import RolloutRecord, WeightChange
from modelway.names import endpoint_name
from modelway.ui.endpoint_counts import CountedStep, counted_steps


@dataclass(frozen=True)
class EndpointView:
    """Who serves, how that came about, and the rollouts, all newest first, and what was counted."""

    name: str
    shares: tuple[ServingRecord, ...]
    changes: tuple[WeightChange, ...]
    rollouts: tuple[RolloutRecord, ...]
    checks: tuple[MonitorSlice, ...] = ()
    """What the monitor counted, the oldest first."""

    @cached_property
    def steps(self) -> list[CountedStep]:
        """What was counted in the steps of the rollouts, the last step first."""
        return counted_steps(self.rollouts)

    @cached_property
    def running(self) -> RolloutRecord | None:
        """The rollout that is running; None: there is none, or it has passed all steps and nothing ends it any more."""
        return next((each for each in self.rollouts if each.state == "running" and not is_finishing(each)), None)

    @property
    def share(self) -> int:
        """The per cent that the version of the running rollout gets by its plan; 0 before its first step."""
        return 0 if self.running is None else planned_share(self.running)

    @property
    def model(self) -> str:
        """The model whose DAG moves the traffic: that of the newest rollout, else of the newest change."""
        return (self.rollouts or self.changes)[0].model

    def actions(
        self, *, current: int | None, before: int | None, environment: str | None, when_busy: str
    ) -> dict[str, Any]:
        """Return what the page's script does when somebody acts on the traffic, with the user's own session.

        Most are calls of Airflow's API, which decides who may do it.

        :param current: the version that took over last
        :param before: the version that served before; None: there is nothing to return to
        :param environment: the name under which the model's spec has the endpoint
        :param when_busy: what a run of the model does that finds a rollout at the endpoint, ``rollout.when_busy``
        """
        conf = {"environment": environment} if environment else {}
        found: dict[str, Any] = {"dag": self.model, "release": {**conf, "rollout": "yes"}}
        unfinished = next((each for each in self.rollouts if each.state == "running"), None)
        if unfinished is not None:
            dag, _, run = unfinished.run_id.partition("/")
            found |= {"run": {"dag": dag, "run": run}, "busy": when_busy, "close": conf | _closing(unfinished, current)}
            return found
        if current is not None:
            found["serves"] = current
        if before is not None:
            found["rollback"] = {**conf, "rollout": "rollback", "version": str(before)}
        return found


def _closing(rollout: RolloutRecord, current: int | None) -> dict[str, str]:
    """Return the run that closes a rollout whose own run is over, and returns what it has of the traffic."""
    if not is_finishing(rollout) and current is not None and rollout.detail.get("stable") == current:
        return {"rollout": "rollback", "version": str(current)}
    # It has passed its steps, or there is no version to return to.
    return {"rollout": "yes", "version": str(rollout.version)}


def environments_by_endpoint(spec: Mapping[str, Any], model: str) -> dict[str, str | None]:
    """Return the endpoints of a recorded spec with the name of each one's environment; None where it has none."""
    section = spec.get("endpoint")
    names = list(section.get("environments") or ()) if isinstance(section, Mapping) else []
    if len(names) > 1:
        return {endpoint_name(model, name): name for name in names}
    return {model: names[0] if names else None}
