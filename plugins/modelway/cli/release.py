"""``modelway release MODEL VERSION`` and ``modelway rollback MODEL``: runs of the model's DAG that move the traffic."""

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelway.errors import ModelwayError, RolloutAborted, UnknownVersion

if TYPE_CHECKING:
    from modelway.cli._remote import RemoteLineage
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage
    from modelway.localairflow.rest import AirflowApi
    from modelway.spec.model import ModelSpec

    Records = Lineage | RemoteLineage

#: how long a run that was ended may take to give its traffic back
RETURN_SECONDS = 120.0
POLL_SECONDS = 1.0
_UNKNOWN_RUN = "the traffic goes back when that run is over, or AIRFLOW_CONN_MODELWAY_AIRFLOW names its Airflow"
_WHERE = "By the Airflow that AIRFLOW_CONN_MODELWAY_AIRFLOW names; without it here, in one process, as modelway run."


def add_commands(subparsers: Any) -> None:
    """Add ``release`` and ``rollback`` to the command line."""
    release = subparsers.add_parser(
        "release",
        help="roll a version out, such as to production",
        description="Roll a registered version out: a run of the model's DAG that trains nothing and moves the traffic "
        f"as the model's rollout says. {_WHERE}",
    )
    release.add_argument("model", metavar="MODEL")
    release.add_argument("version", metavar="VERSION", help="a number, v3, or an alias such as candidate")
    release.set_defaults(run=release_version)
    rollback = subparsers.add_parser(
        "rollback",
        help="give the traffic back to the version that served before",
        description="End a rollout that is running, or give all traffic back to the version that served before, at "
        f"once. {_WHERE}",
    )
    rollback.add_argument("model", metavar="MODEL")
    rollback.set_defaults(run=roll_back)
    for command in (release, rollback):
        command.add_argument("--env", metavar="ENVIRONMENT", help="one of endpoint.environments (default: the last)")
        command.add_argument("--reason", default="", metavar="TEXT", help="why; stored in the record")
        command.add_argument("--wait", action="store_true", help="wait for the run; exit status 1 if it fails")


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where the traffic of a model moves: the endpoint of one of its environments."""

    spec: "ModelSpec"
    environment: str | None
    endpoint: str

    @property
    def place(self) -> str:
        """The name that messages show."""
        return self.environment or f"the endpoint {self.endpoint}"


def release_version(args: argparse.Namespace) -> int:
    """Start the run of a release.

    :raises UnknownVersion: the model has no such version
    """
    from modelway.cli._lineage import read_records

    target = _target(args)
    number = read_records().find(args.model, args.version)
    conf = {"version": str(number), "rollout": "yes", "reason": _reason(args, f"release to {target.place}")}
    return _start(args, target, conf, what=f"version {number} of {args.model} goes to {target.place}")


def roll_back(args: argparse.Namespace) -> int:
    """End the running rollout, or start the run that returns the traffic.

    :raises UnknownVersion: no version served before
    """
    from modelway.cli._lineage import read_records
    from modelway.cli._remote import RemoteLineage
    from modelway.lineage.records.rollout import has_moved, is_returning

    target, store = _target(args), read_records()
    rollouts, api = store.rollouts(target.endpoint), _airflow()
    if api is not None and (ended := next((each for each in rollouts if is_returning(each)), None)) is not None:
        # By this command a moment ago, or by whoever could not return the traffic.
        return _report_end(_ended(args, store, ended, reason=""))
    running = next((each for each in rollouts if each.state == "running"), None)
    if running is not None and api is not None and _is_alive(api, running):
        if has_moved(running) or not isinstance(store, RemoteLineage):
            return _end(args, api, store, running)
        _fail_run(api, running, note=_reason(args, "rollback"))
        return _close(args, target, running, current=store.served_before(target.endpoint)[0])
    current, before = store.served_before(target.endpoint)
    if running is not None and running.detail.get("stable") is not None:
        # Closed by the rollback's run, as soon as its own run is over.
        current, before = running.version, int(running.detail["stable"])
        busy = f"version {current} is being rolled out by the run {running.run_id}, which this command cannot end"
        print(f"{busy}: {_UNKNOWN_RUN}", file=sys.stderr)
    if before is None:
        served = "no version" if current is None else f"no version before {current}"
        raise UnknownVersion(
            f"there is nothing to return to: {served} served",
            where=f"endpoint {target.endpoint}",
            do=f"Name one: modelway release {args.model} VERSION",
        )
    conf = _rollback_conf(args, before, current)
    what = f"the traffic of {target.place} goes back from version {current} of {args.model} to version {before}"
    return _start(args, target, conf, what=what)


def _close(args: argparse.Namespace, target: _Target, running: "RolloutRecord", *, current: int | None) -> int:
    """Start the run that closes a rollout that has moved no traffic, which the end of its own run leaves open.

    :param current: the version that took over the endpoint last
    :raises ModelwayError: there is no version to return to
    """
    if (stable := running.detail.get("stable", current)) is None:
        return _report_end(running)
    what = f"the rollout of version {running.version} of {args.model} is ended; version {stable} gets all traffic"
    return _start(args, target, _rollback_conf(args, int(stable), running.version), what=what)


def _rollback_conf(args: argparse.Namespace, to: int, current: int | None) -> dict[str, str]:
    reason = _reason(args, f"rollback from version {current}")
    return {"version": str(to), "rollout": "rollback", "reason": reason}


def _target(args: argparse.Namespace) -> _Target:
    from modelway.cli._model_spec import model_spec

    spec = model_spec(args.model)
    place = spec.serving(args.env, last=True)
    return _Target(spec=spec, environment=place.environment, endpoint=place.endpoint)


def _reason(args: argparse.Namespace, what: str) -> str:
    from modelway.cli.asset import actor

    return f"{what} by {actor()}" + (f": {args.reason}" if args.reason else "")


def _start(args: argparse.Namespace, target: _Target, conf: dict[str, str], *, what: str) -> int:
    """Start the run in the Airflow of the environment, or here."""
    if target.environment is not None:
        conf["environment"] = target.environment
    if (api := _airflow()) is None:
        return _run_here(target.spec, conf, what=what)
    _check_dag(api, args.model)
    others = _active_runs(api, args.model)
    run_id = api.trigger(args.model, conf=conf)
    print(f"{what}: run {run_id}\n{_run_url(api, args.model, run_id)}")
    if others:
        print(f"it waits for the run {' or '.join(others)}: max_active_runs of {args.model} is {len(others)}")
    return _wait(api, args.model, run_id) if args.wait else 0


def _run_here(spec: "ModelSpec", conf: dict[str, str], *, what: str) -> int:
    import json

    from modelway.cli.run import run_model

    print(what)
    fields = [f"{name}={json.dumps(value)}" for name, value in conf.items() if name != "version"]
    assignments = [f"version={conf['version']}", *fields]
    return run_model(
        argparse.Namespace(
            model=spec.model, seed=None, set=assignments, run_after=None, interval=None, partition=None, verbose=False
        )
    )


def _airflow() -> "AirflowApi | None":
    """Return the configured Airflow's API; None where none is configured.

    :raises ModelwayError: it does not answer, refuses the login, or the connection cannot be read
    """
    from modelway.cli._remote import remote_airflow
    from modelway.hooks.fields import destination, fields_from_environment
    from modelway.localairflow.rest import AirflowApi

    if (remote := remote_airflow()) is not None:
        return remote
    if (fields := fields_from_environment("modelway_airflow")) is None:
        return None
    place = destination("airflow", fields)
    return AirflowApi(url=place.url, username=fields.login, password=fields.password)


def _check_dag(api: "AirflowApi", model: str) -> None:
    """Refuse a DAG that would not run.

    :raises UnknownModel: Airflow has no DAG of the model
    :raises ModelwayError: it is paused
    """
    api.wait_for_dag(model, seconds=0)
    if api.call("GET", f"/dags/{model}")["is_paused"]:
        raise ModelwayError(
            f"the DAG {model} is paused, so that its runs wait", where=api.url, do=f"airflow dags unpause {model}"
        )


def _active_runs(api: "AirflowApi", model: str) -> list[str]:
    """Return the running runs of the DAG if they are as many as may run at the same time, else none."""
    if not (limit := api.call("GET", f"/dags/{model}").get("max_active_runs")):
        return []
    query = {"state": "running", "limit": limit, "order_by": "run_after"}
    runs = api.call("GET", f"/dags/{model}/dagRuns", params=query)["dag_runs"]
    return [str(run["dag_run_id"]) for run in runs] if len(runs) >= limit else []


def _run_url(api: "AirflowApi", model: str, run_id: str) -> str:
    return f"{api.url.rstrip('/')}/dags/{model}/runs/{quote(run_id, safe='')}"


def _wait(api: "AirflowApi", model: str, run_id: str) -> int:
    """Wait until the run is over; print why it failed."""
    while (state := api.run_state(model, run_id)) not in ("success", "failed"):
        time.sleep(POLL_SECONDS)
    for task in api.tasks(model, run_id) if state == "failed" else ():
        if task.state == "failed":
            why = api.xcom(model, run_id, task.task_id, key="failure", map_index=task.map_index)
            print(f"{task.task_id} failed: {why or 'see its log'}")
    print(f"the run has {'succeeded' if state == 'success' else 'failed'}")
    return 0 if state == "success" else 1


def _is_alive(api: "AirflowApi", running: "RolloutRecord") -> bool:
    """Return whether the run of a rollout can continue; the next run's rollout closes one whose run has ended."""
    dag_id, _, run_id = running.run_id.partition("/")
    try:
        return api.run_state(dag_id, run_id) in ("queued", "running")
    except ModelwayError:
        # Another Airflow's.
        return False


def _end(args: argparse.Namespace, api: "AirflowApi", store: "Records", running: "RolloutRecord") -> int:
    """Fail the run of a running rollout, which returns the traffic, and wait until it has.

    :raises RolloutAborted: the traffic was not returned in time
    :raises ModelwayError: the version has taken over meanwhile, or there is none to return to
    """
    from modelway.cli._remote import RemoteLineage
    from modelway.cli.asset import actor
    from modelway.hooks.lineage import lineage_from_environment

    reason = _reason(args, "rollback")
    # From another machine the note of the run says it.
    if not isinstance(store, RemoteLineage):
        store = lineage_from_environment()
        store.request_rollback(running, actor=actor(), reason=reason)
    _fail_run(api, running, note=reason)
    return _report_end(_ended(args, store, running, reason=reason))


def _fail_run(api: "AirflowApi", running: "RolloutRecord", *, note: str) -> None:
    dag_id, _, run_id = running.run_id.partition("/")
    path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
    api.call("PATCH", path, json={"state": "failed", "note": note})


def _ended(args: argparse.Namespace, store: "Records", rollout: "RolloutRecord", *, reason: str) -> "RolloutRecord":
    """Wait until a rollout is over and its traffic is back; one that has moved none is closed here.

    :raises RolloutAborted: the traffic was not returned in time
    """
    from modelway.cli._remote import RemoteLineage
    from modelway.cli.asset import actor
    from modelway.following.rollouts import close_rollout
    from modelway.lineage.records.rollout import has_moved, is_returning

    def close() -> "RolloutRecord | None":
        if isinstance(store, RemoteLineage):
            return None
        return close_rollout(store, endpoint=rollout.endpoint, run=rollout.run_id, actor=actor(), reason=reason)

    until = time.monotonic() + RETURN_SECONDS
    while rollout.state == "running" or is_returning(rollout):
        if not has_moved(rollout) and close() is not None:
            rollout = store.rollout(rollout.endpoint, rollout.run_id) or rollout
            continue
        if time.monotonic() > until:
            raise RolloutAborted(
                f"the run {rollout.run_id} was ended, and its traffic has not been returned yet",
                where=f"endpoint {rollout.endpoint}",
                do="See the logs of Airflow's scheduler and triggerer, then run this command again; a new run of the "
                f"DAG returns it as well, such as modelway release {args.model} {rollout.detail.get('stable')}",
            )
        time.sleep(POLL_SECONDS)
        rollout = store.rollout(rollout.endpoint, rollout.run_id) or rollout
    return rollout


def _report_end(ended: "RolloutRecord") -> int:
    """Print who serves after a rollout was ended.

    :raises ModelwayError: the version that was to lose its traffic has it
    """
    version, stable, where = ended.version, ended.detail.get("stable"), f"endpoint {ended.endpoint}"
    if ended.state == "done":
        raise ModelwayError(
            f"version {version} has taken over before its rollout could be ended",
            where=where,
            do="Run this command again to return to the version that served before",
        )
    if stable is None and not ended.detail.get("already_served"):
        raise UnknownVersion(
            f"the rollout of version {version} is ended, and there is nothing to return to: no version served before",
            where=where,
            do="Release another version, or stop the endpoint",
        )
    serves = f"version {version} serves on" if stable is None else f"version {stable} gets all traffic"
    print(f"the rollout of version {version} of {ended.model} is ended; {serves}")
    return 0
