"""Promote a deployed version: move traffic to it step by step."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import Context

from modelway.endpoints.base import EndpointSpec, EndpointStatus, Predictor
from modelway.errors import EndpointNotReady, RolloutAborted
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.settings import Settings
from modelway.lineage.record import RolloutRecord
from modelway.operators._base import PATIENCE_SECONDS, ModelwayOperator, failures_told, run_key
from modelway.operators._traffic import endpoint_of, rollout_of, weights_of
from modelway.operators.register import actor

#: a rollout is aborted when more than this share of the new version's requests failed
MOST_ERRORS = 0.05


class PromoteModelOperator(ModelwayOperator):
    """Raise a deployed version's weight through ``steps``; at 100 % move an alias to it and stop the version before.

    Between two steps the task waits, deferred when it is long. After each the version must be ready and at most 5 % of
    its requests may have failed, else all traffic goes back and the rollout is aborted. The step reached is kept in the
    lineage, so that a retry goes on from it, and a finished rollout is never done again.

    :param version: what RegisterModelOperator returned
    :param deployment: what DeployModelOperator returned
    :param steps: percentages, rising to 100
    :param interval_seconds: time between two steps
    :param alias: the alias that moves to the version, ``champion`` by default

    Returns ``{endpoint, url, version, weights, steps: [{weight, requests: {version: count}}]}``.
    """

    template_fields: Sequence[str] = ("version", "deployment", "steps", "interval_seconds", "alias")

    def __init__(
        self,
        *,
        version: Any,
        deployment: Any,
        steps: Sequence[int] = (100,),
        interval_seconds: int = 10,
        alias: str = "champion",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.deployment = deployment
        self.steps = steps
        self.interval_seconds = interval_seconds
        self.alias = alias

    def run(self, context: Context) -> Any:
        """Take step after step, each when its time has come; a retry goes on from the last one taken."""
        from modelway.lineage.store import open_store

        settings = settings_from_airflow()
        store = open_store(settings.lineage_url)
        rollout = rollout_of(store, endpoint=self.deployment["endpoint"], run=run_key(context))
        if rollout is None:
            raise RolloutAborted("this run deployed nothing", do="Run DeployModelOperator before it")
        if rollout.state == "aborted":
            raise RolloutAborted(
                f"this run's rollout was aborted: {rollout.detail.get('reason')}", do="Trigger a new run to try again"
            )
        if rollout.state == "done":
            self.log.info("this run's rollout is done; no traffic moves")
            return self._told(self._status(settings), rollout)
        while True:
            if rollout.step >= 0:
                self._wait(float(rollout.detail["since"]) + int(self.interval_seconds) - time.time())
                rollout = self._judge(context, settings, store, rollout)
            if rollout.step + 1 == len(self._steps()):
                break
            rollout = self._step(context, settings, store, rollout)
            if self._stable() is None:
                break
        status, rollout = self._finish(context, settings, store, rollout)
        return self._told(status, rollout)

    def resume(self, context: Context, event: Any) -> Any:
        """Go on after the interval."""
        with failures_told(self, context):
            return self.run(context)

    def _wait(self, seconds: float) -> None:
        """Wait, deferred unless it is short."""
        if seconds <= PATIENCE_SECONDS:
            time.sleep(max(0.0, seconds))
            return
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=seconds)), method_name="resume")

    def _stable(self) -> int | None:
        return None if self.deployment["stable"] is None else int(self.deployment["stable"])

    def _steps(self) -> tuple[int, ...]:
        """Return the steps; where no other version serves there is nothing to be careful about."""
        return (100,) if self._stable() is None else tuple(int(step) for step in self.steps)

    def _status(self, settings: Settings) -> EndpointStatus:
        status = endpoint_of(self.deployment["target"], settings).status(self.deployment["endpoint"])
        if status is None:
            raise EndpointNotReady("the endpoint is gone", where=self.deployment["endpoint"], do="Trigger a new run")
        return status

    def _set_weights(self, context: Context, settings: Settings, store: Any, weight: int) -> EndpointStatus:
        """Give the version ``weight`` per cent and the stable one the rest; record it."""
        weights = {int(self.version["version"]): weight}
        if (stable := self._stable()) is not None:
            weights[stable] = 100 - weight
        status = endpoint_of(self.deployment["target"], settings).set_weights(self.deployment["endpoint"], weights)
        store.record_weights(
            endpoint=status.name,
            model=self.version["model"],
            weights=weights_of(status),
            actor=actor(context),
            run_id=context["dag_run"].run_id,
        )
        return status

    def _counts(self, settings: Settings) -> dict[str, Any]:
        metrics = endpoint_of(self.deployment["target"], settings).metrics(self.deployment["endpoint"])
        return {str(version): {"requests": each.requests, "errors": each.errors} for version, each in metrics.items()}

    def _step(self, context: Context, settings: Settings, store: Any, rollout: RolloutRecord) -> RolloutRecord:
        weight = self._steps()[rollout.step + 1]
        counts = self._counts(settings)
        self._set_weights(context, settings, store, weight)
        self.log.info("version %s now gets %d %% of the requests", self.version["version"], weight)
        detail = {"since": time.time(), "counts": counts, "steps": rollout.detail.get("steps", [])}
        rollout = replace(rollout, step=rollout.step + 1, detail=detail)
        store.save_rollout(rollout, actor=actor(context))
        return rollout

    def _judge(self, context: Context, settings: Settings, store: Any, rollout: RolloutRecord) -> RolloutRecord:
        """Add what was counted during the step, and abort the rollout when the version did badly."""
        counts = difference(self._counts(settings), rollout.detail["counts"])
        mine = counts.get(str(self.version["version"]), {"requests": 0, "errors": 0})
        told = {"weight": self._steps()[rollout.step], "counts": counts}
        self.log.info("step %d %%: %s", told["weight"], counts)
        ready = {predictor.version: predictor.ready for predictor in self._status(settings).predictors}
        if not ready.get(int(self.version["version"])):
            self._abort(context, settings, store, rollout, "the version is not ready any more")
        if mine["errors"] > MOST_ERRORS * mine["requests"]:
            reason = f"{mine['errors']} of {mine['requests']} requests to the version failed"
            self._abort(context, settings, store, rollout, reason)
        return replace(rollout, detail={**rollout.detail, "steps": [*rollout.detail["steps"], told]})

    def _abort(self, context: Context, settings: Settings, store: Any, rollout: RolloutRecord, reason: str) -> NoReturn:
        if (stable := self._stable()) is not None:
            self._set_weights(context, settings, store, 0)
        detail = {**rollout.detail, "reason": reason}
        store.save_rollout(replace(rollout, state="aborted", detail=detail), actor=actor(context))
        back = f"; version {stable} has all traffic again" if stable is not None else ""
        raise RolloutAborted(f"the rollout of version {rollout.version} was aborted: {reason}{back}")

    def _finish(
        self, context: Context, settings: Settings, store: Any, rollout: RolloutRecord
    ) -> tuple[EndpointStatus, RolloutRecord]:
        """Move the alias, stop the version before, and close the rollout."""
        number, model = int(self.version["version"]), self.version["model"]
        status = self._status(settings)
        store.set_alias(model=model, alias=self.alias, version=number, actor=actor(context), reason="promoted")
        only = next(predictor for predictor in status.predictors if predictor.version == number)
        status = endpoint_of(self.deployment["target"], settings).apply(
            EndpointSpec(
                name=status.name,
                model=model,
                predictors=(Predictor(version=number, image=only.image, weight=100),),
                stable=number,
                host=self.deployment["host"],
                port=self.deployment["port"],
                model_path=self.deployment["path"],
            )
        )
        store.record_weights(
            endpoint=status.name,
            model=model,
            weights=weights_of(status),
            actor=actor(context),
            run_id=context["dag_run"].run_id,
        )
        rollout = replace(rollout, state="done")
        store.save_rollout(rollout, actor=actor(context))
        self.log.info("%s is version %d, at %s", self.alias, number, status.url)
        return status, rollout

    def _told(self, status: EndpointStatus, rollout: RolloutRecord) -> dict[str, Any]:
        return {
            "endpoint": status.name,
            "url": status.url,
            "version": rollout.version,
            "weights": {str(version): weight for version, weight in weights_of(status).items()},
            "steps": rollout.detail.get("steps", []),
        }


def difference(now: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return what was counted since ``before``; where counting began anew, all that was counted since then."""
    told = {}
    for version, counts in now.items():
        earlier = before.get(version, {})
        anew = any(counts[name] < earlier.get(name, 0) for name in counts)
        told[version] = {name: count - (0 if anew else earlier.get(name, 0)) for name, count in counts.items()}
    return told
