"""Promote a deployed version: move traffic to it step by step."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.endpoints.base import EndpointStatus
from modelway.errors import RolloutAborted, RolloutChanged
from modelway.following import metrics
from modelway.following.hosts import is_served_here_alone, refuse_elsewhere
from modelway.hooks.endpoint import open_endpoint_of
from modelway.hooks.lineage import lineage_from_airflow
from modelway.lineage.records.rollout import evidence_text, is_finishing, is_returning, results_of
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators._held import held_by_run
from modelway.operators.approval import AB, CANARY, DECISION, decided, record_answer, refusal, wait_for_approval
from modelway.operators.base import skip_when_blocked, translate_errors
from modelway.operators.context import actor, run_key
from modelway.operators.environment_operator import EnvironmentOperator
from modelway.operators.job_operator import PATIENCE_SECONDS
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.serving import Deployment, FinishedRollout, StepResult
from modelway.runs.messages.version import RegisteredVersion
from modelway.runs.rollout import Rollout
from modelway.runs.rollout_record import Settings, holds_until
from modelway.runs.traffic import weights_of

#: seconds between two looks at the counts while the task waits in its worker
LOOK_SECONDS = 1.0


class PromoteModelOperator(EnvironmentOperator):
    """Raise a deployed version's weight through ``steps``; at 100 % move an alias to it and stop the version before.

    In each step the version is compared with the one that serves, every few seconds: failed requests, slow answers and
    the split itself (docs/endpoints.md). A step is over when its time is over, the version got enough requests and
    nothing speaks against it. The rollout, its plan, the evidence and the step reached are recorded in the lineage: a
    retry continues from there, and a finished rollout is never done again. When the version does worse, its server
    ends, a step gets no result, the last attempt fails, or a user ends the task, all traffic goes back to the stable
    version and the rollout is aborted. While a step lasts the task is deferred, unless that is short. So it is
    while a person is asked to approve: a version that does worse meanwhile is rolled back, and the question closed.

    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param deployment: what DeployModelOperator returned
    :param steps: percentages, rising to 100, or ``{"weight": 10, "hold": "10m", "requests": 500}``; where no other
        version serves there is one step
    :param interval_seconds: the least time that a step takes
    :param minimum_requests: the least requests to the version in a step below 100 %; 0: none are needed
    :param analysis: how the version is judged, as the spec's section ``rollout.analysis`` has it
    :param alias: the alias that moves to the version, ``champion`` by default; None: none does
    :param approval: whether a person approves in Airflow before the version gets all traffic
    :param mode: ``canary``, or ``ab``: at the end of the only step below 100 % one of the two versions is chosen, by a
        person with ``approval``, else by the numbers; choosing the one before is no failure
    :param environment: the environment to serve in, one of ``environments``
    :param environments: other values of these parameters by environment: ``{"dev": {"steps": [100]}}``

    Returns ``{endpoint, url, version, weights, steps: [{weight, counts: {version: {requests, errors}}, action, reason,
    tests: {test: {e, limit}}, since, slow}]}``; ``since`` is in seconds since the epoch.
    """

    template_fields: Sequence[str] = (
        *EnvironmentOperator.template_fields,
        *("version", "deployment", "steps", "interval_seconds", "minimum_requests", "analysis", "alias"),
        *("approval", "mode"),
    )
    accepts: ClassVar[Checks] = {
        **EnvironmentOperator.accepts,
        "version": checks.VERSION,
        "deployment": checks.DEPLOYMENT,
        "steps": checks.STEPS,
        "interval_seconds": checks.INTERVAL,
        "minimum_requests": checks.MINIMUM_REQUESTS,
        "analysis": checks.ANALYSIS,
        "alias": checks.OPTIONAL_ALIAS,
        "approval": checks.FLAG,
        "mode": checks.ROLLOUT_MODE,
    }
    _killed = False

    def __init__(
        self,
        *,
        version: Any,
        deployment: Any,
        steps: Sequence[int | Mapping[str, Any]] = (100,),
        interval_seconds: int = 10,
        minimum_requests: int = 100,
        analysis: Mapping[str, Any] | None = None,
        alias: str | None = "champion",
        approval: bool = False,
        mode: str = CANARY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.deployment = deployment
        self.steps = steps
        self.interval_seconds = interval_seconds
        self.minimum_requests = minimum_requests
        self.analysis = analysis
        self.alias = alias
        self.approval = approval
        self.mode = mode
        self.check_arguments()

    def run(self, context: Context) -> Any:
        """Do one step after the other, each at its time; a retry continues from the last one."""
        skip_when_blocked(RegisteredVersion.from_xcom(self.version))
        store = lineage_from_airflow(self.settings.lineage_url)
        refuse_elsewhere(store, endpoint=self._deployed.endpoint, target=self._deployed.target)
        rollout = self._rollout(context)
        record = rollout.record
        if record.state == "aborted":
            self._return_traffic(context, rollout)
            if self.mode == AB and (reason := refusal(record)) is not None:
                # The attempt before ended after that: choosing the version before is no failure.
                return self._refused(context, rollout, reason)
            raise RolloutAborted(
                f"this run's rollout was aborted: {record.detail.get('reason')}", do="Trigger a new run to try again"
            )
        if record.state == "done":
            self.log.info("this run's rollout is done; no traffic moves")
            return self._finished(rollout, rollout.status)
        try:
            return self._continue(context, rollout)
        except Exception as error:
            ti = context["ti"]
            if not getattr(error, "retryable", True) or ti.try_number > ti.max_tries:
                self._abort(context, str(getattr(error, "what", error)).splitlines()[0])
            raise

    def _rollout(self, context: Context) -> Rollout:
        from modelway.following.rollouts import count_end

        deployed, store = self._deployed, lineage_from_airflow(self.settings.lineage_url)
        record = store.rollout(deployed.endpoint, run_key(context))
        return Rollout(
            store=store,
            port=open_endpoint_of(record, self.settings, target=deployed.target),
            endpoint=deployed.endpoint,
            run=run_key(context),
            actor=actor(context),
            ended=count_end,
        )

    @property
    def _deployed(self) -> Deployment:
        return Deployment.from_xcom(self.deployment)

    def _continue(self, context: Context, rollout: Rollout) -> Xcom:
        """Roll out; what a person does to the record between reading and writing it is read again."""
        while True:
            try:
                return self._roll_out(context, rollout)
            except RolloutChanged as error:
                self.log.info("%s: it is read again", error.what)
                self._sleep(LOOK_SECONDS)

    def _roll_out(self, context: Context, rollout: Rollout) -> Xcom:
        settings = Settings(
            steps=self.steps,
            interval_seconds=int(self.interval_seconds),
            minimum_requests=int(self.minimum_requests),
            analysis=self.analysis,
            held=held_by_run(context),
        )
        rollout.plan(settings, target=self._deployed.target)
        if (reason := refusal(rollout.record)) is not None:
            return self._refused(context, rollout, reason)
        if is_finishing(rollout.record):
            return self._finished(rollout, rollout.complete())
        run_id = context["dag_run"].run_id
        while True:
            if rollout.is_in_step():
                self._wait(rollout)
            if (step := rollout.next_step()) is None:
                break
            if step.weight == 100:
                self._wait_for_approval(context, rollout)
            rollout.advance(run_id=run_id)
            metrics.count("rollout.step", endpoint=self._deployed.endpoint, weight=step.weight)
        return self._finished(rollout, rollout.finish(alias=self.alias))

    def resume(self, context: Context, event: Any) -> Any:
        """Continue when the step is over, or the rollout."""
        with translate_errors(self, context):
            return self.run(context)

    def _wait_for_approval(self, context: Context, rollout: Rollout) -> None:
        """Wait until a person approves the last step; the first version, and a rollback, need nobody."""
        record = rollout.record
        if record.detail["stable"] is None or "rollback" in record.detail:
            return
        store = lineage_from_airflow(self.settings.lineage_url)
        if self.approval:
            is_judged = not is_served_here_alone(self._deployed.target)
            wait_for_approval(context, store, record, mode=self.mode, resume="answered", is_judged=is_judged)
        elif self.mode == AB and DECISION not in record.detail:
            store.save_rollout(decided(record, by="analysis", version=record.version), actor=actor(context))

    def answered(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Continue with what a person answered: the last step, or all traffic goes back."""
        with translate_errors(self, context):
            store = lineage_from_airflow(self.settings.lineage_url)
            record_answer(store, endpoint=self._deployed.endpoint, run=run_key(context), event=event)
            return self.run(context)

    def _refused(self, context: Context, rollout: Rollout, reason: str) -> Xcom:
        """Return all traffic; of two versions that were compared, the one before may well be chosen.

        :raises RolloutAborted: a person rejected the version
        """
        if self.mode != AB:
            raise RolloutAborted(reason, where=f"endpoint {self._deployed.endpoint}")
        self._abort(context, reason)
        return self._finished(rollout, rollout.status)

    def on_kill(self) -> None:
        """Abort the rollout when a user ends the task; while it is deferred, the trigger does."""
        self._killed = True

    def _wait(self, rollout: Rollout) -> None:
        """Look at the version until its step is over, deferred unless that is soon.

        :raises RolloutAborted: it does worse than the stable version, or a user ended the task
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self._killed:
                raise RolloutAborted("a user ended the task")
            verdict = rollout.inspect()
            if verdict.action == "promote":
                evidence = evidence_text(verdict.numbers.get("tests", {}))
                self.log.info("the step is over: %s; evidence against the version: %s", verdict.reason, evidence)
                return
            if verdict.action == "rollback":
                raise RolloutAborted(verdict.reason)
            record = rollout.record
            is_soon = time.monotonic() < until and holds_until(record) - time.time() < PATIENCE_SECONDS
            if not is_soon and not is_served_here_alone(self._deployed.target):
                self.log.info("waiting: %s", verdict.reason)
                from modelway.triggers.rollout import RolloutTrigger

                trigger = RolloutTrigger(
                    until=holds_until(record),
                    endpoint=record.endpoint,
                    target=self._deployed.target,
                    run=record.run_id,
                    step=record.step,
                )
                self.defer(trigger=trigger, method_name="resume")
            left = holds_until(record) - time.time()
            self._sleep(min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._killed:
            time.sleep(min(0.2, seconds))

    def _abort(self, context: Context, reason: str) -> None:
        from modelway.following.rollouts import abort_rollout

        closed = abort_rollout(
            self.settings,
            endpoint=self._deployed.endpoint,
            target=self._deployed.target,
            run=run_key(context),
            actor=actor(context),
            reason=reason,
        )
        if closed is not None:
            self.log.error("the rollout of version %d is aborted; its traffic goes back", closed.version)

    def _return_traffic(self, context: Context, rollout: Rollout) -> None:
        """Return what this run's rollout still has, if whoever aborted it could not."""
        from modelway.following.rollouts import return_traffic

        if is_returning(rollout.record):
            return_traffic(
                lineage_from_airflow(self.settings.lineage_url),
                self.settings,
                endpoint=self._deployed.endpoint,
                target=self._deployed.target,
                actor=actor(context),
            )

    def _finished(self, rollout: Rollout, status: EndpointStatus) -> Xcom:
        record = rollout.record
        return FinishedRollout(
            endpoint=status.name,
            url=status.url,
            version=record.version,
            weights={str(version): weight for version, weight in weights_of(status).items()},
            steps=tuple(StepResult(**result) for result in results_of(record)),
        ).to_xcom()
