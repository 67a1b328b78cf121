"""The Airflow connection of type ``google_cloud_platform``: read key by key, with or without the google provider."""

from modelway.errors import SecretMissing
from modelway.hooks.connection import check_absent, connection
from modelway.hooks.fields import fields_from_airflow
from modelway.platforms.google.connection import GOOGLE_CONN_ID, GoogleConnection, connection_of_extra


class GoogleHook:
    """The hook of members that run on Google Cloud: its client is a ``GoogleConnection``."""

    #: the connection of all such members
    shared_conn_id = GOOGLE_CONN_ID

    def __init__(self, *, conn_id: str) -> None:
        """Read nothing yet."""
        self.conn_id = conn_id

    def get_conn(self) -> GoogleConnection:
        """Return the connection; see ``google_settings``."""
        return google_settings(self.conn_id)


def google_settings(conn_id: str = GOOGLE_CONN_ID) -> GoogleConnection:
    """Return how this process reaches Google Cloud.

    Without a connection ``modelway_google`` these are the credentials of the environment; a connection of another id
    must exist.

    :raises ModelwayError: a field of the connection has a value that cannot be used
    :raises SecretMissing: there is no such connection
    :raises LineageUnavailable: Airflow does not answer for it
    """
    found = connection(conn_id)
    if found is None:
        check_absent(conn_id)
        if conn_id != GOOGLE_CONN_ID:
            raise SecretMissing(f"there is no connection '{conn_id}'", do="Make it in Airflow (Admin → Connections)")
        return GoogleConnection()
    settings = connection_of_extra(fields_from_airflow(conn_id, found).extra, conn_id=conn_id)
    _mask(settings)
    return settings


def _mask(settings: GoogleConnection) -> None:
    """Have Airflow mask the secrets in its logs."""
    from airflow.sdk.log import mask_secret

    for value in (
        settings.client_secret,
        (settings.key or {}).get("private_key"),
        *settings.client_parameters.values(),
    ):
        if value:
            mask_secret(value)
