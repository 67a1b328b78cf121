"""Airflow Connections as settings, read key by key; without one the embedded defaults hold."""

import os
from dataclasses import replace

from modelway.hooks.fields import database_url, destination, fields_from_airflow
from modelway.hooks.settings import LINEAGE_CONN_ID, Settings, exporter_of_environment, load_settings
from modelway.lineage.exporters.base import Destination, known_exporters

REGISTRY_CONN_ID = "modelway_registry"


def settings_from_airflow() -> Settings:
    """Return the settings a task runs with.

    The optional connection ``modelway_registry`` gives login and password of the image registry, ``modelway_lineage``
    the lineage database, unless ``MODELWAY_LINEAGE_URL`` does. The command is no task: it reads the environment alone.

    :raises ModelwayError: ``modelway_lineage`` describes no database for the lineage
    """
    settings = replace(load_settings(), lineage_url=lineage_url_from_airflow())
    if registry := connection(REGISTRY_CONN_ID):
        settings = replace(settings, registry_login=registry.login, registry_password=registry.password)
    return settings


def lineage_url_from_airflow() -> str:
    """Return the URL of the lineage database: the environment's, else the connection's, else the embedded one's.

    :raises ModelwayError: ``modelway_lineage`` describes no database for the lineage
    """
    if not os.environ.get("MODELWAY_LINEAGE_URL") and (given := connection(LINEAGE_CONN_ID)):
        return database_url(fields_from_airflow(LINEAGE_CONN_ID, given))
    return load_settings().lineage_url


def exporters_from_airflow() -> tuple[Destination, ...]:
    """Return who else is told what the lineage learns: by the environment, else by the connection of each.

    :raises ModelwayError: the environment cannot be read
    """
    found = (exporter_of_environment(name) or _exporter_of_connection(name) for name in known_exporters())
    return tuple(each for each in found if each is not None)


def _exporter_of_connection(name: str) -> Destination | None:
    conn_id = f"modelway_{name}"
    given = connection(conn_id)
    return destination(name, fields_from_airflow(conn_id, given)) if given else None


def connection(conn_id: str):  # type: ignore[no-untyped-def]
    """Return an Airflow Connection, or None where there is none of that id."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        return None
