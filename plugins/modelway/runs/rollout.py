"""A running rollout: looks at the endpoint, moves its weights and ends it; what happened is in the lineage.

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
from modelway.errors import EndpointNotReady, RolloutAborted, RolloutChanged
from modelway.lineage.records.rollout import is_finishing
from modelway.lineage.records.steering import LEAVES
from modelway.runs import rollout_record
from modelway.runs.rollout_record import Settings
from modelway.runs.steered import refuse_changed
from modelway.runs.traffic import record_traffic, returned, split

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)


class Rollout:
    """The rollout of a run at an endpoint."""

    def __init__(
        self,
        *,
        store: "Lineage",
        port: Endpoint,
        endpoint: str,
        run: str,
        actor: str = "airflow",
        ended: "Callable[[RolloutRecord], None]" = lambda record: None,
    ) -> None:
        """Open the rollout.

        :param endpoint: the endpoint's name
        :param run: the key of the DAG run whose rollout it is
        :param ended: called with the record when it is closed here, once
        """
        self._store, self._port = store, port
        self._endpoint, self._run, self._actor = endpoint, run, actor
        self._ended = ended
        #: when the present step gives up, by the last record that was read
        self._gives_up_at: float | None = None

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

    def is_in_step(self) -> bool:
        """Return whether a step has begun and is not over."""
        record = self.record
        return record.step >= 0 and not record.detail.get("moving")

    def next_step(self) -> Step | None:
        """Return the step that comes next, None after the last."""
        record = self.record
        steps = rollout_record.plan_of(record)
        return steps[record.step + 1] if record.step + 1 < len(steps) else None

    def advance(self, *, run_id: str) -> None:
        """Begin the next step: give the version its weight and the stable one the rest.

        :param run_id: Airflow's id of the DAG run, for the record of the weights
        :raises RolloutAborted: the rollout was ended meanwhile; its share went back
        :raises RolloutChanged: a person held the step before meanwhile, or the record changed otherwise
        """
        record = self.record
        if not record.detail.get("moving"):
            refuse_changed(record)
            # Written first: a process that ends before the step has begun leaves one to begin again, none to judge.
            record = self._save(rollout_record.moving(record))
        step = rollout_record.plan_of(record)[record.step + 1]
        percents = {record.version: step.weight}
        if (stable := record.detail["stable"]) is not None:
            percents[int(stable)] = 100 - step.weight
        weights = split(self.status, percents)
        # Once more: an attempt may continue where a rollout was ended, and the endpoint's status takes its time.
        if (now := self.record).state != "running":
            raise RolloutAborted(f"this run's rollout was aborted: {now.detail.get('reason')}")
        status = self._port.set_weights(self._endpoint, weights)
        _log.info("version %d now gets %d %% of the requests", record.version, step.weight)
        actor = record.detail.get(LEAVES, {}).get("by", self._actor)
        record_traffic(self._store, status, actor=actor, run_id=run_id)
        metrics, restarts = self._port.metrics(self._endpoint), rollout_record.restarts_of(record, status)
        try:
            self._save(rollout_record.begun(record, metrics=metrics, restarts=restarts, now=time.time()))
        except RolloutAborted:
            self._give_back(record)
            raise

    def inspect(self) -> Verdict:
        """Read the counts once more and return what is to be done with the present step.

        What does not answer for a while is waited for, as long as the step may take.

        :raises RolloutAborted: the version's server ended, or the rollout was ended meanwhile
        :raises EndpointNotReady: the endpoint, or its gateway, does not answer, and the step's time is over
        """
        try:
            return self._inspected()
        except RolloutAborted:
            raise
        except RolloutChanged as error:
            # Such as by a person: the next inspection reads it as it is now.
            return Verdict(action="hold", reason=error.what)
        except Exception as error:
            if not getattr(error, "retryable", True) or time.time() > (self._gives_up_at or 0.0):
                raise
            reason = f"the endpoint cannot be read: {type(error).__name__}: {error}"
            return Verdict(action="hold", reason=reason.splitlines()[0])

    def _inspected(self) -> Verdict:
        record = self.record
        if record.state == "aborted":
            raise RolloutAborted(f"this run's rollout was aborted: {record.detail.get('reason')}")
        # A sign of life, also while the endpoint does not answer.
        record = self._save(record)
        self._gives_up_at = rollout_record.gives_up_at(record)
        metrics = self._port.metrics(self._endpoint)
        record, verdict = rollout_record.looked(record, status=self.status, metrics=metrics, now=time.time())
        self._save(record)
        return verdict

    def finish(self, *, alias: str | None) -> EndpointStatus:
        """Let the version take over: nothing aborts the rollout from now on, and ``complete`` can be repeated.

        :raises RolloutAborted: the rollout was ended meanwhile
        :raises RolloutChanged: a person held the last step meanwhile, or set another share
        """
        record = self.record
        if not is_finishing(record):
            refuse_changed(record, is_last=True)
            self._save(rollout_record.finishing(record, alias=alias))
        return self.complete()

    def complete(self) -> EndpointStatus:
        """Stop the previous version, move the alias, and close the rollout, as far as that is not done.

        :raises RolloutAborted: the version is no longer behind the endpoint, so that the rollout is closed
        """
        record, before = self.record, self._port.status(self._endpoint)
        if not is_finishing(record):
            return self.status
        number, alias = record.version, record.detail["finishing"]["alias"]
        name = predictor_name(number)
        if before is None or name not in {each.name for each in before.predictors}:
            reason = f"version {number} is no longer behind the endpoint"
            closed = self._save(replace(record, state="aborted", detail={**record.detail, "reason": reason}))
            self._ended(closed)
            raise RolloutAborted(reason, where=f"endpoint {record.endpoint}", do="Trigger a new run")
        weights, spec = split(before, {number: 100}), before.spec()
        # in the order of before, by which users stay where they are
        predictors = tuple(
            replace(each, weight=weights[each.name])
            for each in spec.predictors
            if each.name == name or pipeline_version(each.name) is None
        )
        status = self._port.apply(replace(spec, predictors=predictors, stable=name, mirror=None))
        record_traffic(self._store, status, actor=self._actor, run_id=record.run_id.partition("/")[2])
        if alias is not None:
            self._store.set_alias(model=record.model, alias=alias, version=number, actor=self._actor, reason="promoted")
        self._ended(self._save(rollout_record.done(record)))
        _log.info("%s is version %d, at %s", alias or record.endpoint, number, status.url)
        return status

    def _give_back(self, record: "RolloutRecord") -> None:
        """Give the version's share back to the stable one."""
        weights = returned(self.status, version=record.version, stable=record.detail["stable"])
        if weights is not None:
            self._port.set_weights(self._endpoint, weights)

    def _save(self, record: "RolloutRecord") -> "RolloutRecord":
        """Write the record and return it as written.

        :raises RolloutAborted: the rollout was ended meanwhile
        :raises RolloutChanged: another process wrote it since it was read
        """
        return self._store.save_rollout(record, actor=self._actor)
