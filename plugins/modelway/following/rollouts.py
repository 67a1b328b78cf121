"""A rollout that ends before its time: its traffic goes back to the version that served."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from modelway.endpoints.base import Endpoint, predictor_name, remove
from modelway.errors import EndpointNotReady, ModelwayError, RolloutAborted, RolloutChanged
from modelway.following import metrics
from modelway.hooks.endpoint import open_endpoint_of
from modelway.hooks.settings import Settings
from modelway.lineage.records.rollout import has_moved, is_finishing, is_returning
from modelway.runs.rollout_record import aborted
from modelway.runs.traffic import record_traffic, record_weights, returned

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)
#: how often a rollout is written in which nothing happens
LIFE_SECONDS = 300.0
#: seconds after each attempt to return the traffic, when the endpoint does not answer
_WAITS = (1.0, 3.0, 6.0, 0.0)


def abort_rollout(
    settings: Settings, *, endpoint: str, target: str, run: str, actor: str, reason: str, withdraw: bool = False
) -> "RolloutRecord | None":
    """Close a running rollout as aborted and return all traffic to its stable version, if that still exists.

    Returns the closed rollout; ``None`` when it was not running, or its version is taking over already, in which case
    nothing is done.

    :param withdraw: stop the version as well, and with it the endpoint where no other version serves
    :raises ModelwayError: the endpoint does not answer; ``return_traffic`` of any process does the rest
    """
    from modelway.hooks.lineage import lineage_from_airflow

    store = lineage_from_airflow(settings.lineage_url)
    # Closed first: even if the endpoint fails below, no retry continues it.
    rollout = close_rollout(store, endpoint=endpoint, run=run, actor=actor, reason=reason, withdraw=withdraw)
    if rollout is not None:
        port = open_endpoint_of(rollout, settings, target=target)
        _return(store, port, rollout, actor=actor, may_move=True)
    return rollout


def close_rollout(
    store: "Lineage", *, endpoint: str, run: str, actor: str, reason: str, withdraw: bool = False
) -> "RolloutRecord | None":
    """Record a running rollout as aborted; return it, and ``None`` when it is over or its version is taking over."""
    while (rollout := store.rollout(endpoint, run)) is not None:
        if rollout.state != "running" or is_finishing(rollout):
            return None
        try:
            closed = store.save_rollout(aborted(rollout, reason, withdraw=withdraw), actor=actor)
        except RolloutChanged:
            # By a look, or by the step that follows: what is closed is the rollout as it is now.
            continue
        except RolloutAborted:
            # Somebody else was faster, and returns the traffic.
            return None
        count_end(closed)
        return closed
    return None


def count_end(rollout: "RolloutRecord") -> None:
    """Count a rollout that ended, where its state has changed: once."""
    metrics.count("rollout.ended", endpoint=rollout.endpoint, state=rollout.state)


def return_traffic(store: "Lineage", settings: Settings, *, endpoint: str, target: str, actor: str) -> None:
    """Return what rollouts of the endpoint still have that were closed by a process that could not, or did not.

    :param target: where it serves, unless the rollout's record says so
    :raises ModelwayError: the endpoint does not answer
    """
    for rollout in store.rollouts(endpoint):
        if is_returning(rollout):
            with _or_abandoned(rollout):
                port = open_endpoint_of(rollout, settings, target=target)
                _return(store, port, rollout, actor=actor)


def complete_rollout(store: "Lineage", settings: Settings, rollout: "RolloutRecord", *, actor: str) -> None:
    """Let the version of a rollout take over whose process ended while it did that.

    :raises ModelwayError: the endpoint does not answer
    """
    from modelway.runs.rollout import Rollout

    try:
        with _or_abandoned(rollout):
            port = open_endpoint_of(rollout, settings, target=str(rollout.detail["target"]))
            mine = Rollout(
                store=store, port=port, endpoint=rollout.endpoint, run=rollout.run_id, actor=actor, ended=count_end
            )
            _attempt(f"version {rollout.version} does not take over {rollout.endpoint} yet", mine.complete)
    except RolloutAborted as error:
        _log.warning("the rollout of version %d is closed: %s", rollout.version, error)


@contextmanager
def _or_abandoned(rollout: "RolloutRecord") -> Iterator[None]:
    """Say of a rollout that cannot be finished, since its endpoint does not answer, what is to be done.

    :raises EndpointNotReady: in place of the endpoint's own error
    """
    try:
        yield
    except RolloutAborted:
        raise
    except ModelwayError as error:
        what = "does not give its traffic back" if is_returning(rollout) else "does not take over"
        raise EndpointNotReady(
            f"version {rollout.version} {what}, which its rollout (run {rollout.run_id}) has to do first: {error.what}",
            where=f"endpoint {rollout.endpoint}, target {rollout.detail.get('target')}",
            do="Make the endpoint answer; where it is gone for good: modelway endpoint abandon " + rollout.endpoint,
        ) from error


def show_life(store: "Lineage", *, endpoint: str, run: str) -> None:
    """Write a running rollout as it is: another Airflow takes one for dead that is silent for an hour."""
    if (rollout := store.rollout(endpoint, run)) is not None and rollout.state == "running":
        store.save_rollout(rollout)


def abandon_rollouts(store: "Lineage", settings: Settings, *, endpoint: str, actor: str) -> "list[RolloutRecord]":
    """Close what rollouts of an endpoint have still to do there, for one that is gone for good; return them.

    :raises ModelwayError: the endpoint can be read, so that nothing needs to be given up
    """
    # One that has moved nothing has nothing to do there.
    moved = (each for each in store.rollouts(endpoint) if each.state == "running" and has_moved(each))
    found = [*filter(is_returning, store.rollouts(endpoint)), *moved]
    for rollout in found:
        target = str(rollout.detail.get("target") or "")
        try:
            open_endpoint_of(rollout, settings, target=target).status(endpoint)
        except Exception as error:
            reason = f"abandoned by {actor}: {type(error).__name__}: {getattr(error, 'what', error)}".splitlines()[0]
        else:
            raise ModelwayError(
                f"it can be read (target {target or '-'}), so that the rollout of version {rollout.version} can end",
                where=f"endpoint {endpoint}",
                do=f"modelway rollback {rollout.model} ends it; the next deployment finishes what is left of one",
            )
        if rollout.state == "running":
            rollout = store.save_rollout(aborted(rollout, reason), actor=actor)
            count_end(rollout)
        store.record_returned(rollout)
    return found


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
        store = lineage_from_airflow(settings.lineage_url)
        for rollout in store.rollouts_of_run(run):
            _end(store, settings, rollout, state=state)
    except Exception as error:
        _log.error("the rollouts of %s are not aborted: %s: %s", run, type(error).__name__, error)


def _end(store: "Lineage", settings: Settings, rollout: "RolloutRecord", *, state: str) -> None:
    """End the rollout of a run that has ended, and return what is still to be returned of its endpoint."""
    if not (target := str(rollout.detail.get("target") or "")):
        return
    place, actor = rollout.endpoint, "airflow"
    if is_finishing(rollout):
        _log.warning("version %d takes over %s, which its run did not finish", rollout.version, place)
        complete_rollout(store, settings, rollout, actor=actor)
    elif rollout.state == "running" and has_moved(rollout):
        _log.warning("the rollout of version %d at %s is aborted", rollout.version, place)
        reason = f"its run ended before it did ({state})"
        abort_rollout(settings, endpoint=place, target=target, run=rollout.run_id, actor=actor, reason=reason)
    return_traffic(store, settings, endpoint=place, target=target, actor=actor)


def _return(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str, may_move: bool = False) -> None:
    """Return a closed rollout's traffic, stop its version where that is wanted, and record that this is done.

    :param may_move: whether its task may still be at work: where a step was about to begin, it gives the version its
        share maybe, and may die before it takes that back. Then the end of the run, a retry or the next deployment
        return once more.
    """
    what = f"the traffic of {rollout.endpoint} does not go back yet"
    _attempt(what, lambda: _return_once(store, port, rollout, actor=actor))
    if not (may_move and rollout.detail.get("moving")):
        store.record_returned(rollout)


def _attempt(what: str, work: Callable[[], object]) -> None:
    """Do the work, also when the endpoint does not answer for a moment."""
    *first, last = _WAITS
    for seconds in first:
        try:
            work()
            return
        except RolloutAborted:
            raise
        except ModelwayError as error:
            _log.warning("%s: %s", what, error)
            time.sleep(seconds)
    time.sleep(last)
    work()


def _return_once(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str) -> None:
    now = store.rollout(rollout.endpoint, rollout.run_id)
    if is_returning(rollout) and (now is None or not is_returning(now)):
        # Somebody else has returned it meanwhile: what the version has now is another rollout's.
        return
    if (status := port.status(rollout.endpoint)) is None:
        return
    weights = returned(status, version=rollout.version, stable=rollout.detail.get("stable"))
    if weights is not None:
        status = port.set_weights(rollout.endpoint, weights)
    if status.mirror is not None and status.mirror.predictor == predictor_name(rollout.version):
        status = port.apply(replace(status.spec(), mirror=None))
    record_weights(store, status, model=rollout.model, actor=actor)
    if rollout.detail.get("withdraw"):
        _withdraw(store, port, rollout, actor=actor)


def _withdraw(store: "Lineage", port: Endpoint, rollout: "RolloutRecord", *, actor: str) -> None:
    """Stop the version of an aborted rollout, unless the endpoint does not have it, or it served before the run."""
    if rollout.detail.get("already_served"):
        return
    name = predictor_name(rollout.version)
    status = port.status(rollout.endpoint)
    if status is None or name not in {each.name for each in status.predictors}:
        return
    others = tuple(each for each in status.spec().predictors if each.name != name)
    if others and any(each.weight for each in others):
        port.apply(replace(status.spec(), predictors=others, mirror=None))
    elif not others:
        remove(port, rollout.endpoint)
        record_traffic(store, replace(status, predictors=(), stopped=True), actor=actor, run_id=None)
