"""Promote a deployed version: move traffic to it step by step."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.endpoints.base import Endpoint, EndpointStatus, pipeline_version, predictor_name
from modelway.errors import EndpointNotReady, RolloutAborted
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.lineage import lineage_from_airflow
from modelway.operators import _argument_checks as checks
from modelway.operators._approval import record_answer, wait_for_approval
from modelway.operators._checks import Checks
from modelway.operators.base import skip_when_blocked, translate_errors
from modelway.operators.context import actor, run_key
from modelway.operators.environment_operator import EnvironmentOperator
from modelway.operators.job_operator import PATIENCE_SECONDS
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.serving import Deployment, FinishedRollout, StepResult
from modelway.runs.messages.version import RegisteredVersion
from modelway.runs.traffic import deployed, record_traffic, split, weights_of

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

#: a rollout is aborted when more than this share of the new version's requests failed
MOST_ERRORS = 0.05


class PromoteModelOperator(EnvironmentOperator):
    """Raise a deployed version's weight through ``steps``; at 100 % move an alias to it and stop the version before.

    Between two steps the task waits, deferred when it is long. After each the version must be ready, its server must
    not have ended meanwhile, and at most 5 % of its requests may have failed. The rollout, its steps and the step
    reached are recorded in the lineage: a retry continues from there, and a finished rollout is never done again. When
    the version does badly, the last attempt fails, or a user ends the task, all traffic goes back to the stable version
    and the rollout is aborted.

    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param deployment: what DeployModelOperator returned
    :param steps: percentages, rising to 100; where no other version serves there is one step
    :param interval_seconds: time between two steps
    :param alias: the alias that moves to the version, ``champion`` by default; None: none does
    :param approval: whether a person approves in Airflow before the version gets all traffic
    :param environment: the environment to serve in, one of ``environments``
    :param environments: other values of these parameters by environment: ``{"dev": {"steps": [100]}}``

    Returns ``{endpoint, url, version, weights, steps: [{weight, counts: {version: {requests, errors}}}]}``.
    """

    template_fields: Sequence[str] = (
        *EnvironmentOperator.template_fields,
        *("version", "deployment", "steps", "interval_seconds", "alias"),
    )
    accepts: ClassVar[Checks] = {
        **EnvironmentOperator.accepts,
        "version": checks.VERSION,
        "deployment": checks.DEPLOYMENT,
        "steps": checks.STEPS,
        "interval_seconds": checks.INTERVAL,
        "alias": checks.OPTIONAL_ALIAS,
        "approval": checks.FLAG,
    }
    _killed = False

    def __init__(
        self,
        *,
        version: Any,
        deployment: Any,
        steps: Sequence[int] = (100,),
        interval_seconds: int = 10,
        alias: str | None = "champion",
        approval: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.deployment = deployment
        self.steps = steps
        self.interval_seconds = interval_seconds
        self.alias = alias
        self.approval = approval
        self.check_arguments()

    def run(self, context: Context) -> Any:
        """Do one step after the other, each at its time; a retry continues from the last one."""
        skip_when_blocked(RegisteredVersion.from_xcom(self.version))
        store = lineage_from_airflow()
        rollout = store.rollout(self._deployed.endpoint, run_key(context))
        if rollout is None:
            raise RolloutAborted("this run deployed nothing", do="Run DeployModelOperator before it")
        if rollout.state == "aborted":
            raise RolloutAborted(
                f"this run's rollout was aborted: {rollout.detail.get('reason')}", do="Trigger a new run to try again"
            )
        if rollout.state == "done":
            self.log.info("this run's rollout is done; no traffic moves")
            return self._finished(self._status(), rollout).to_xcom()
        try:
            return self._roll_out(context, store, rollout)
        except Exception as error:
            ti = context["ti"]
            if not getattr(error, "retryable", True) or ti.try_number > ti.max_tries:
                self._abort(context, str(error).splitlines()[0])
            raise

    @property
    def _deployed(self) -> Deployment:
        return Deployment.from_xcom(self.deployment)

    @property
    def _endpoint(self) -> Endpoint:
        return open_endpoint(self._deployed.target, self.settings)

    def _roll_out(self, context: Context, store: "Lineage", rollout: "RolloutRecord") -> Xcom:
        if "steps" not in rollout.detail:
            one = rollout.detail["stable"] is None or "rollback" in rollout.detail
            plan = [100] if one else [int(step) for step in self.steps]
            rollout = replace(rollout, detail={**rollout.detail, "steps": plan, "results": []})
        steps = rollout.detail["steps"]
        while True:
            if rollout.step >= 0:
                self._wait(rollout)
                rollout = self._judge(rollout)
            if rollout.step + 1 >= len(steps):
                break
            if self._needs_approval(rollout):
                wait_for_approval(context, store, rollout, resume="answered")
            rollout = self._step(context, store, rollout, weight=steps[rollout.step + 1])
            if rollout.detail["stable"] is None or "rollback" in rollout.detail:
                break
        status, rollout = self._finish(context, store, rollout)
        return self._finished(status, rollout).to_xcom()

    def resume(self, context: Context, event: Any) -> Any:
        """Continue after the interval."""
        with translate_errors(self, context):
            return self.run(context)

    def _needs_approval(self, rollout: "RolloutRecord") -> bool:
        """Return whether a person has to approve the next step, the last one; a rollback needs nobody."""
        is_last = rollout.step + 2 == len(rollout.detail["steps"])
        return self.approval and is_last and rollout.detail["stable"] is not None and "rollback" not in rollout.detail

    def answered(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Continue with what a person answered: the last step, or all traffic goes back."""
        with translate_errors(self, context):
            run, store = run_key(context), lineage_from_airflow()
            try:
                record_answer(context, store, endpoint=self._deployed.endpoint, run=run, event=event)
            except RolloutAborted as error:
                self._abort(context, error.what)
                raise
            return self.run(context)

    def on_kill(self) -> None:
        """Abort the rollout when a user ends the task; while it is deferred, the trigger does."""
        self._killed = True

    def _wait(self, rollout: "RolloutRecord") -> None:
        """Wait until the step's interval is over, deferred unless that is soon."""
        until = float(rollout.detail["since"]) + int(self.interval_seconds)
        if until - time.time() > PATIENCE_SECONDS:
            from modelway.triggers.rollout import RolloutTrigger

            trigger = RolloutTrigger(
                until=until,
                endpoint=rollout.endpoint,
                target=self._deployed.target,
                run=rollout.run_id,
            )
            self.defer(trigger=trigger, method_name="resume")
        while time.time() < until and not self._killed:
            time.sleep(min(0.2, max(0.0, until - time.time())))

    def _status(self) -> EndpointStatus:
        name = self._deployed.endpoint
        if (status := self._endpoint.status(name)) is None:
            raise EndpointNotReady("the endpoint is gone", where=name, do="Trigger a new run")
        return status

    def _counts(self) -> dict[str, dict[str, Any]]:
        metrics = self._endpoint.metrics(self._deployed.endpoint)
        return {
            str(version): {"requests": each.requests, "errors": each.errors, "since": each.since}
            for name, each in metrics.items()
            if (version := pipeline_version(name)) is not None
        }

    def _step(self, context: Context, store: "Lineage", rollout: "RolloutRecord", *, weight: int) -> "RolloutRecord":
        """Give the version ``weight`` per cent and the stable one the rest; record it."""
        counts = self._counts()
        percents = {rollout.version: weight}
        if (stable := rollout.detail["stable"]) is not None:
            percents[int(stable)] = 100 - weight
        status = self._endpoint.set_weights(rollout.endpoint, split(self._status(), percents))
        self.log.info("version %d now gets %d %% of the requests", rollout.version, weight)
        self._record_weights(context, store, status)
        restarts = _restarts(status, rollout.version)
        detail = {**rollout.detail, "since": time.time(), "counts": counts, "restarts": restarts}
        rollout = replace(rollout, step=rollout.step + 1, detail=detail)
        store.save_rollout(rollout, actor=actor(context))
        return rollout

    def _record_weights(self, context: Context, store: "Lineage", status: EndpointStatus) -> None:
        record_traffic(store, status, actor=actor(context), run_id=context["dag_run"].run_id)

    def _judge(self, rollout: "RolloutRecord") -> "RolloutRecord":
        """Add the requests and errors of the step.

        :raises RolloutAborted: the version failed a check, or a user ended the task
        """
        if self._killed:
            raise RolloutAborted("a user ended the task")
        status = self._status()
        ready = {predictor.version: predictor.ready for predictor in deployed(status)}
        if not ready.get(rollout.version):
            raise RolloutAborted(f"version {rollout.version} is not ready any more")
        if _restarts(status, rollout.version) > int(rollout.detail.get("restarts", 0)):
            raise RolloutAborted(f"the server of version {rollout.version} ended during this step")
        counts = difference(self._counts(), rollout.detail["counts"])
        result = {"weight": rollout.detail["steps"][rollout.step], "counts": counts}
        self.log.info("step %d %%: %s", result["weight"], counts)
        mine = counts.get(str(rollout.version), {"requests": 0, "errors": 0})
        if mine["errors"] > MOST_ERRORS * mine["requests"]:
            raise RolloutAborted(f"{mine['errors']} of {mine['requests']} requests to version {rollout.version} failed")
        return replace(rollout, detail={**rollout.detail, "results": [*_results(rollout)[: rollout.step], result]})

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

    def _finish(
        self, context: Context, store: "Lineage", rollout: "RolloutRecord"
    ) -> "tuple[EndpointStatus, RolloutRecord]":
        """Move the alias, stop the previous version, and close the rollout."""
        number = rollout.version
        model = RegisteredVersion.from_xcom(self.version).model
        before = self._status()
        name, weights, spec = predictor_name(number), split(before, {number: 100}), before.spec()
        # in the order of before, by which users stay where they are
        predictors = tuple(
            replace(each, weight=weights[each.name])
            for each in spec.predictors
            if each.name == name or pipeline_version(each.name) is None
        )
        if self.alias is not None:
            store.set_alias(model=model, alias=self.alias, version=number, actor=actor(context), reason="promoted")
        status = self._endpoint.apply(replace(spec, predictors=predictors, stable=name))
        self._record_weights(context, store, status)
        rollout = replace(rollout, state="done")
        store.save_rollout(rollout, actor=actor(context))
        self.log.info("%s is version %d, at %s", self.alias or rollout.endpoint, number, status.url)
        return status, rollout

    def _finished(self, status: EndpointStatus, rollout: "RolloutRecord") -> FinishedRollout:
        return FinishedRollout(
            endpoint=status.name,
            url=status.url,
            version=rollout.version,
            weights={str(version): weight for version, weight in weights_of(status).items()},
            steps=tuple(StepResult(**result) for result in _results(rollout)),
        )


def _results(rollout: "RolloutRecord") -> list[dict[str, Any]]:
    """Return the counts of each step; a rollout that an earlier modelway started stores them under ``told``."""
    results: list[dict[str, Any]] = rollout.detail.get("results", rollout.detail.get("told", []))
    return results


def _restarts(status: EndpointStatus, version: int) -> int:
    return sum(predictor.restarts for predictor in deployed(status) if predictor.version == version)


def difference(now: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return requests and errors since ``before``; where the counters were reset (``since``), all of them."""
    found = {}
    for version, counts in now.items():
        earlier = before.get(version, {})
        names = ("requests", "errors")
        was_reset = counts.get("since") != earlier.get("since", counts.get("since"))
        was_reset = was_reset or any(counts[name] < earlier.get(name, 0) for name in names)
        found[version] = {name: counts[name] - (0 if was_reset else earlier.get(name, 0)) for name in names}
    return found
