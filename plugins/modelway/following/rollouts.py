"""A rollout that ends before its time: its traffic goes back to the version that served."""

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from modelway.endpoints.base import Endpoint, predictor_name
from modelway.errors import ModelwayError, RolloutAborted
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.settings import Settings
from modelway.runs.rollout_record import aborted, has_moved
from modelway.runs.traffic import deployed, record_traffic, record_weights, split

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)
#: seconds after each attempt to return the traffic, when the endpoint does not answer
_WAITS = (1.0, 3.0, 6.0, 0.0)


def abort_rollout(
    settings: Settings, *, endpoint: str, target: str, run: str, actor: str, reason: str, withdraw: bool = False
) -> "RolloutRecord | None":
    """Close a running rollout as aborted and return all traffic to its stable version, if that still exists.

    Returns the closed rollout; ``None`` when it was not running, in which case nothing is done.

    :param withdraw: stop the version as well, and with it the endpoint where no other version serves
    """
    from modelway.hooks.lineage import lineage_from_airflow

    store = lineage_from_airflow(settings.lineage_url)
    rollout = store.rollout(endpoint, run)
    if rollout is None or rollout.state != "running":
        return None
    # Closed first: even if the endpoint fails below, no retry continues it.
    rollout = aborted(rollout, reason)
    try:
        store.save_rollout(rollout, actor=actor)
    except RolloutAborted:
        # Somebody else was faster, and returns the traffic.
        return None
    port = open_endpoint(target, settings)
    _return_traffic(store, port, rollout, actor=actor)
    if withdraw:
        _withdraw(store, port, rollout, actor=actor)
    return rollout


def abort_rollouts_of(run: str, *, state: str) -> None:
    """Abort the rollouts that a run left behind when it ended; errors are logged and not raised.

    One that has moved no traffic stays open: a cleared run continues it, and another run's rollout closes it.

    :param run: ``<DAG id>/<run id>``
    :param state: how the run ended
    """
    try:
        from modelway.hooks.connection import settings_from_airflow
        from modelway.hooks.lineage import lineage_from_airflow

        settings = settings_from_airflow()
        found = lineage_from_airflow(settings.lineage_url).rollouts_of_run(run)
        for rollout in found:
            target = rollout.detail.get("target")
            if rollout.state == "running" and has_moved(rollout) and target:
                _log.warning("the rollout of version %d at %s is aborted", rollout.version, rollout.endpoint)
                reason, place = f"its run ended before it did ({state})", str(target)
                abort_rollout(
                    settings, endpoint=rollout.endpoint, target=place, run=run, actor="airflow", reason=reason
                )
    except Exception as error:
        _log.error("the rollouts of %s are not aborted: %s: %s", run, type(error).__name__, error)


def _return_traffic(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str) -> None:
    """Give the stable version all traffic, also when the endpoint does not answer for a moment: no retry does it."""
    *first, last = _WAITS
    for seconds in first:
        try:
            return _give_back(store, port, rollout, actor=actor)
        except ModelwayError as error:
            _log.warning("the traffic of %s does not go back yet: %s", rollout.endpoint, error)
            time.sleep(seconds)
    time.sleep(last)
    _give_back(store, port, rollout, actor=actor)


def _give_back(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str) -> None:
    status, stable = port.status(rollout.endpoint), rollout.detail.get("stable")
    if status is not None and stable in {predictor.version for predictor in deployed(status)}:
        status = port.set_weights(rollout.endpoint, split(status, {int(stable): 100}))
        if status.mirror is not None:
            status = port.apply(replace(status.spec(), mirror=None))
        record_weights(store, status, model=rollout.model, actor=actor)


def _withdraw(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str) -> None:
    """Stop the version of an aborted rollout, unless the endpoint does not have it."""
    name = predictor_name(rollout.version)
    status = port.status(rollout.endpoint)
    if status is None or name not in {each.name for each in status.predictors}:
        return
    others = tuple(each for each in status.spec().predictors if each.name != name)
    if others and any(each.weight for each in others):
        port.apply(replace(status.spec(), predictors=others, mirror=None))
    elif not others:
        port.delete(rollout.endpoint)
        record_traffic(store, replace(status, predictors=(), stopped=True), actor=actor, run_id=None)
