"""The pages as Airflow's api-server serves them."""

from functools import cache

from fastapi import FastAPI


@cache
def pages() -> FastAPI:
    """Return the pages behind Airflow's login, over the lineage of this deployment."""
    from modelway.hooks.connection import lineage_url_from_airflow
    from modelway.ui.app import create_app
    from modelway.ui.auth import readable_dags

    return create_app(store_url=lineage_url_from_airflow, readable_dags=readable_dags)
