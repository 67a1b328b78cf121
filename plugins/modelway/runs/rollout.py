"""A running rollout: looks at the endpoint, moves its weights, and ends it; what happened is in the lineage.

Each call reads the record again, so that any process can continue what another one began, and each is right after a
crash at any point. A rollout that was ended meanwhile, by a user or by another run, is never moved again.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from modelway.endpoints.base import Endpoint, EndpointStatus, pipeline_version, predictor_name
from modelway.endpoints.judge import Step, Verdict
from modelway.errors import EndpointNotReady, ModelwayError, RolloutAborted
from modelway.runs import rollout_record
from modelway.runs.rollout_record import Settings
from modelway.runs.traffic import deployed, record_traffic, record_weights, split

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)
#: how often the return of the traffic is attempted, and the seconds before each attempt
_RETURN_WAITS = (0.0, 1.0, 3.0, 6.0)


class Rollout:
    """The rollout of a run at an endpoint."""

    def __init__(
        self, *, store: "Lineage", port: Endpoint, endpoint: str, run: str, actor: str = "airflow", log: object = None
    ) -> None:
        """Open the rollout.

        :param endpoint: the endpoint's name
        :param run: the key of the DAG run whose rollout it is
        :param log: the logger of a task or a trigger; default: this module's
        """
        self._store, self._port = store, port
        self._endpoint, self._run, self._actor = endpoint, run, actor
        self._log: logging.Logger = log or _log  # type: ignore[assignment]

    @property
    def record(self) -> "RolloutRecord":
        """The record as it is now.

        :raises RolloutAborted: the run deployed nothing
        """
        record = self._store.rollout(self._endpoint, self._run)
        if record is None:
            raise RolloutAborted("this run deployed nothing", do="Run DeployModelOperator before it")
        return record

    @property
    def status(self) -> EndpointStatus:
        """The endpoint as it is now.

        :raises EndpointNotReady: there is none
        """
        if (status := self._port.status(self._endpoint)) is None:
            raise EndpointNotReady("the endpoint is gone", where=self._endpoint, do="Trigger a new run")
        return status

    def plan(self, settings: Settings, *, target: str) -> None:
        """Record the steps and how they are judged, unless they are recorded."""
        self._save(rollout_record.planned(self.record, settings, target=target))

    def next_step(self) -> Step | None:
        """Return the step that comes next, None after the last; the same one again where its begin was cut off."""
        record = self.record
        steps = rollout_record.plan_of(record)
        return steps[record.step + 1] if record.step + 1 < len(steps) else None

    def is_in_step(self) -> bool:
        """Return whether a step has begun, and was not finished."""
        record = self.record
        return record.step >= 0 and not record.detail.get("moving")

    def advance(self, *, run_id: str) -> None:
        """Begin the next step: give the version its weight and the stable one the rest.

        :param run_id: Airflow's id of the DAG run, for the record of the weights
        :raises RolloutAborted: the rollout was ended meanwhile; the stable version has the traffic
        """
        record = self.record
        if not record.detail.get("moving"):
            # Written first: a process that ends between here and the new step leaves a step to begin, none to judge.
            if record.step >= 0:
                record = rollout_record.finished_step(record)
            record = replace(record, detail={**record.detail, "moving": True})
            self._save(record)
        step = rollout_record.plan_of(record)[record.step + 1]
        percents = {record.version: step.weight}
        if (stable := record.detail["stable"]) is not None:
            percents[int(stable)] = 100 - step.weight
        status = self._port.set_weights(self._endpoint, split(self.status, percents))
        self._log.info("version %d now gets %d %% of the requests", record.version, step.weight)
        record_traffic(self._store, status, actor=self._actor, run_id=run_id)
        metrics, restarts = self._port.metrics(self._endpoint), rollout_record.restarts_of(record, status)
        self._save(rollout_record.begun(record, metrics=metrics, restarts=restarts, now=time.time()))

    def look(self) -> Verdict:
        """Read the counts once more and return what is to be done with the present step.

        :raises RolloutAborted: the version's server ended, or the rollout was ended meanwhile
        :raises EndpointNotReady: the endpoint, or its gateway, does not answer
        """
        record = self.record
        if record.state == "aborted":
            raise RolloutAborted(f"this run's rollout was aborted: {record.detail.get('reason')}")
        metrics = self._port.metrics(self._endpoint)
        record, verdict = rollout_record.looked(record, status=self.status, metrics=metrics, now=time.time())
        self._save(record)
        return verdict

    def finish(self, *, alias: str, run_id: str) -> EndpointStatus:
        """Move the alias, stop the previous version, and close the rollout."""
        record, before = self.record, self.status
        number = record.version
        name, weights, spec = predictor_name(number), split(before, {number: 100}), before.spec()
        # in the order of before, by which users stay where they are
        predictors = tuple(
            replace(each, weight=weights[each.name])
            for each in spec.predictors
            if each.name == name or pipeline_version(each.name) is None
        )
        self._store.set_alias(model=record.model, alias=alias, version=number, actor=self._actor, reason="promoted")
        status = self._port.apply(replace(spec, predictors=predictors, stable=name))
        record_traffic(self._store, status, actor=self._actor, run_id=run_id)
        self._save(replace(rollout_record.finished_step(record), state="done"))
        self._log.info("%s is version %d, at %s", alias, number, status.url)
        return status

    def abort(self, reason: str) -> bool:
        """Close a running rollout as aborted and return all traffic to its stable version, if that still exists.

        Returns whether it was running; otherwise nothing is done.
        """
        record = self._store.rollout(self._endpoint, self._run)
        if record is None or record.state != "running":
            return False
        if record.step >= 0 and not record.detail.get("moving") and "plan" in record.detail:
            record = rollout_record.finished_step(record, {**record.detail.get("verdict", {}), "action": "rollback"})
        # Closed first: even if the endpoint fails below, no attempt continues it.
        closed = replace(record, state="aborted", detail={**record.detail, "reason": reason})
        if not self._store.save_rollout(closed, actor=self._actor):
            return False
        self._return_traffic(closed)
        self._log.error("the rollout of version %d is aborted; its traffic goes back", record.version)
        return True

    def _return_traffic(self, record: "RolloutRecord") -> None:
        """Give the stable version all of the traffic, also when the endpoint does not answer for a moment."""
        error: Exception | None = None
        for seconds in _RETURN_WAITS:
            time.sleep(seconds)
            try:
                return self._give_back(record)
            except ModelwayError as refused:
                error = refused
                self._log.warning("the traffic does not go back yet: %s", refused)
        raise error or RolloutAborted("the traffic does not go back")

    def _give_back(self, record: "RolloutRecord") -> None:
        status, stable = self._port.status(self._endpoint), record.detail.get("stable")
        if status is None or stable not in {each.version for each in deployed(status)}:
            return
        status = self._port.set_weights(self._endpoint, split(status, {int(stable): 100}))
        record_weights(self._store, status, model=record.model, actor=self._actor)

    def _save(self, record: "RolloutRecord") -> None:
        """Write the record.

        :raises RolloutAborted: the rollout was ended meanwhile; what this process moved is moved back
        """
        if self._store.save_rollout(record, actor=self._actor):
            return
        ended = self.record
        if ended.state == "aborted":
            self._return_traffic(ended)
        raise RolloutAborted(f"this run's rollout was ended meanwhile: {ended.detail.get('reason', ended.state)}")


def abort_rollouts_of(
    run: str, *, store: "Lineage", open_port: Callable[[str], Endpoint], actor: str, reason: str
) -> list[str]:
    """Abort what a run still rolls out, and return the endpoints whose traffic went back.

    :param open_port: opens the endpoints of a target
    """
    aborted = []
    for record in store.running_rollouts(run_id=run):
        rollout = Rollout(
            store=store,
            port=open_port(str(record.detail.get("target", "local"))),
            endpoint=record.endpoint,
            run=run,
            actor=actor,
        )
        if rollout.abort(reason):
            aborted.append(record.endpoint)
    return aborted
