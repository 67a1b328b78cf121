"""Watch what serves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset, AssetAlias, Context

from modelway.following.hosts import is_served_here_alone
from modelway.lineage.records.monitoring import FAILED
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.approval import refusal
from modelway.operators.base import ModelwayOperator, translate_errors

if TYPE_CHECKING:
    from modelway.lineage.records.monitoring import RetrainRequest
    from modelway.lineage.store import Lineage

#: through it events of assets are sent that are known only when the task runs
RETRAIN = AssetAlias("modelway-retrain")


class MonitorModelsOperator(ModelwayOperator):
    """Check all models whose spec has rules below ``monitor``, and request retrainings by asset events.

    The checks run deferred, in the triggerer; those of endpoints that only the host of this task can inspect run in the
    task. For each request one event of the asset ``modelway://<model>/retrain`` is sent, whose ``extra`` has
    ``{request, rule, reason, rebuild}``, and the notifiers of ``notifications.on_retraining`` are called; see
    docs/monitor.md.

    :param folder: the folder of the models; default: that of the deployment

    Returns `{requests: [{model, request, rule, reason, rebuild}]}`, nothing where there are none.
    """

    template_fields: Sequence[str] = ("folder",)
    accepts: ClassVar[Checks] = {"folder": checks.FOLDER}

    def __init__(self, *, folder: str | None = None, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [RETRAIN], **kwargs})
        self.folder = folder
        self.check_arguments()

    def run(self, context: Context) -> Any:
        """Note how requested runs ended, then check all models, deferred where a trigger can."""
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.runs.watched import watched_models
        from modelway.triggers.monitor import MonitorTrigger, check_logged, open_ports, request_of

        watched = watched_models(self._models())
        if not watched:
            self.log.info("no model has rules below monitor")
            return None
        store = lineage_from_airflow(self.settings.lineage_url)
        for model in {each.model for each in watched}:
            self._note_outcomes(context, store, model)
        watched = [replace(each, is_busy=self._is_busy(context, each.model)) for each in watched]
        # A trigger elsewhere sees nothing of them.
        here = [each for each in watched if is_served_here_alone(each.target)]
        ports = open_ports(here, self.settings, self.log)
        found = [check_logged(each, self.settings, ports, self.log) for each in here if each.place in ports]
        requests = [request_of(each) for each in found if each is not None and each.request is not None]
        if others := [each.to_dict() for each in watched if each not in here]:
            self.defer(trigger=MonitorTrigger(models=others, requests=requests), method_name="resume")
        return self._send(context, requests) if requests else None

    def resume(self, context: Context, event: Any) -> Any:
        """Send the events."""
        with translate_errors(self, context):
            return self._send(context, event["requests"])

    def _send(self, context: Context, requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
        from modelway.hooks.lineage import lineage_from_airflow

        store = lineage_from_airflow(self.settings.lineage_url)
        for each in requests:
            extra = {name: value for name, value in each.items() if name != "model"}
            context["outlet_events"][RETRAIN].add(Asset(uri=f"modelway://{each['model']}/retrain"), extra=extra)
            self.log.warning("%s is to be retrained: %s", each["model"], each["reason"])
            store.monitoring.record_sent(each["request"], at=datetime.now(UTC))
        self._notify(context, requests)
        return {"requests": list(requests)}

    def _notify(self, context: Context, requests: Sequence[dict[str, Any]]) -> None:
        from modelway.following.notifiers import call_notifiers
        from modelway.runs.watched import specs_with_rules

        specs = {spec.model: spec for spec in specs_with_rules(self._models())}
        for each in requests:
            if each["model"] in specs and (named := specs[each["model"]].notifications.on_retraining):
                message = f"{each['model']} is to be retrained: {each['reason']}"
                call_notifiers(((one.notifier, one.args) for one in named), context, message)

    def _models(self) -> Path:
        from modelway.spec.load import models_folder

        return Path(self.folder) if self.folder else models_folder()

    def _note_outcomes(self, context: Context, store: "Lineage", model: str) -> None:
        """Record how the runs ended that requests started."""
        for request in store.monitoring.requests(model):
            if request.outcome is None and request.run_id is not None:
                outcome = self._outcome(context, store, request)
                if outcome is not None:
                    self.log.info("the run of request %d of %s: %s", request.id, model, outcome)
                    store.monitoring.record_outcome(request.id, outcome=outcome)

    def _is_busy(self, context: Context, model: str) -> bool:
        """Return whether a run of a model is not over; one that Airflow does not say counts as such."""
        try:
            return bool(context["ti"].get_dr_count(dag_id=model, states=["queued", "running"]))
        except Exception as error:
            self.log.warning("whether a run of %s is not over is not known: %s", model, error)
            return True

    def _outcome(self, context: Context, store: "Lineage", request: "RetrainRequest") -> str | None:
        """Return what came of a request; None while its run is not over, or Airflow does not say."""
        dag_id, _, run_id = str(request.run_id).partition("/")
        number = store.version_of_run(request.model, dag_id=dag_id, run_id=run_id)
        try:
            state = context["ti"].get_dagrun_state(dag_id=dag_id, run_id=run_id)
        except Exception as error:
            self.log.warning("the state of run %s is not known: %s", request.run_id, error)
            if not _is_not_found(error):
                return None
            # Somebody deleted the run.
            state = "failed"
        if state not in ("success", "failed"):
            return None
        is_answered = number is not None and (state == "success" or _is_judged(store, request))
        return f"version {number}" if is_answered else FAILED


def _is_judged(store: "Lineage", request: "RetrainRequest") -> bool:
    """Return whether the version of a request took over, did worse, or was rejected by a person."""
    rollout = store.rollout(request.endpoint, str(request.run_id))
    if rollout is None:
        return False
    did_worse = (rollout.detail.get("verdict") or {}).get("action") == "rollback"
    return rollout.state == "done" or (rollout.state == "aborted" and (did_worse or refusal(rollout) is not None))


def _is_not_found(error: Exception) -> bool:
    """Return whether Airflow's API server answered that there is no such run."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, Mapping) and detail.get("status_code") == HTTPStatus.NOT_FOUND
