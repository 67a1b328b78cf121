"""Airflow Connections as settings, read key by key; without one the embedded defaults apply."""

import os
from dataclasses import replace
from typing import Any

from modelway.errors import LineageUnavailable
from modelway.hooks.fields import database_url, destination, fields_from_airflow, is_for_jobs, registry_of
from modelway.hooks.settings import (
    LINEAGE_CONN_ID,
    REGISTRY_CONN_ID,
    Settings,
    exporter_of_environment,
    load_settings,
    make_private,
)
from modelway.lineage.exporters.base import Destination
from modelway.ports import known

#: connections that this process knows to be absent
_ABSENT: set[str] = set()


def settings_from_airflow() -> Settings:
    """Return the settings a task runs with.

    The optional connection ``modelway_registry`` gives login and password of the image registry, ``modelway_lineage``
    the lineage database, unless ``MODELWAY_LINEAGE_URL`` does. The command is no task: it reads the environment alone.

    :raises ModelwayError: ``modelway_lineage`` describes no database for the lineage
    :raises LineageUnavailable: Airflow does not answer for it
    """
    settings = replace(load_settings(), lineage_url=lineage_url_from_airflow())
    make_private(settings.home)
    if registry := connection(REGISTRY_CONN_ID):
        fields = fields_from_airflow(REGISTRY_CONN_ID, registry)
        settings = replace(
            settings,
            registry_host=registry_of(fields),
            registry_login=registry.login,
            registry_password=registry.password,
            registry_for_jobs=is_for_jobs(fields),
        )
    return settings


def lineage_url_from_airflow() -> str:
    """Return the URL of the lineage database: the environment's, else the connection's, else the embedded one's.

    :raises ModelwayError: ``modelway_lineage`` describes no database for the lineage
    :raises LineageUnavailable: Airflow does not answer for it
    """
    if not os.environ.get("MODELWAY_LINEAGE_URL"):
        if found := connection(LINEAGE_CONN_ID):
            return database_url(fields_from_airflow(LINEAGE_CONN_ID, found))
        check_absent(LINEAGE_CONN_ID)
    return load_settings().lineage_url


def check_absent(conn_id: str) -> None:
    """Check that a connection is absent, not only unavailable.

    Airflow also reports a connection that it cannot look up as missing, and a version would go into another
    database than all the others.

    :raises LineageUnavailable: Airflow could not look it up
    """
    from airflow.sdk.execution_time import task_runner

    if conn_id in _ABSENT:
        return
    if runner := getattr(task_runner, "SUPERVISOR_COMMS", None):
        is_absent = _is_absent_for_task(conn_id, runner)
    elif os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "server":
        is_absent = _is_absent_on_server(conn_id)
    else:
        return
    if not is_absent:
        raise LineageUnavailable(f"Airflow cannot say whether there is a connection {conn_id}", do="Try again")
    _ABSENT.add(conn_id)


def _is_absent_for_task(conn_id: str, runner: Any) -> bool:
    """Request the connection through the task's own supervisor."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection

    try:
        answer = runner.send(GetConnection(conn_id=conn_id))
    except AirflowRuntimeError as error:
        answer = error.error
    return isinstance(answer, ErrorResponse) and answer.error == ErrorType.CONNECTION_NOT_FOUND


def _is_absent_on_server(conn_id: str) -> bool:
    """Look the connection up in each place that the API server and the scheduler use."""
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    try:
        return not any(place.get_connection(conn_id=conn_id) for place in ensure_secrets_backend_loaded())
    except Exception as error:
        # Whatever a secrets backend raises: its database's errors, its client's, Airflow's.
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LineageUnavailable(
            f"Airflow cannot say whether there is a connection {conn_id} ({why})", do="Try again"
        ) from error


def exporters_from_airflow() -> tuple[Destination, ...]:
    """Return where the lineage is exported to: by the environment, else by the connection of each exporter."""
    found = (exporter_of_environment(name) or _exporter_of_connection(name) for name in known("exporters"))
    return tuple(each for each in found if each is not None)


def _exporter_of_connection(name: str) -> Destination | None:
    conn_id = f"modelway_{name}"
    if found := connection(conn_id):
        return destination(name, fields_from_airflow(conn_id, found))
    try:
        check_absent(conn_id)
    except LineageUnavailable as error:
        # It may exist: the facts are stored, and sent by a run that can read it.
        return Destination(exporter=name, url=error.what)
    return None


def connection(conn_id: str):  # type: ignore[no-untyped-def]
    """Return an Airflow Connection, or None where there is none of that id."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        return None
