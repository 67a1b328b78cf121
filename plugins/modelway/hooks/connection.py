"""Airflow Connections as settings, read key by key; without one the embedded defaults hold."""

from dataclasses import replace

from modelway.hooks.settings import Settings, load_settings

REGISTRY_CONN_ID = "modelway_registry"


def settings_from_airflow() -> Settings:
    """Return the settings a task runs with.

    The optional connection ``modelway_registry`` gives login and password of the image registry. Where the lineage is,
    the pages and the command must know too, and they are no tasks: it is in the environment alone.
    """
    settings = load_settings()
    if registry := connection(REGISTRY_CONN_ID):
        settings = replace(settings, registry_login=registry.login, registry_password=registry.password)
    return settings


def connection(conn_id: str):  # type: ignore[no-untyped-def]
    """Return an Airflow Connection, or None where there is none of that id."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        return None
