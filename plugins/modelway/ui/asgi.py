"""The pages as Airflow's api-server serves them."""

from functools import cache

from fastapi import FastAPI


@cache
def pages() -> FastAPI:
    """Return the pages behind Airflow's login, over the lineage of this deployment."""
    from modelway.hooks.settings import load_settings
    from modelway.ui.app import create_app
    from modelway.ui.auth import readable_dags

    return create_app(store_url=lambda: load_settings().lineage_url, readable_dags=readable_dags)
