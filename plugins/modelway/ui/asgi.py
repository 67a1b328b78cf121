"""The pages as Airflow's api-server serves them."""

from functools import cache

from fastapi import FastAPI


@cache
def pages() -> FastAPI:
    """Return the pages behind Airflow's login, over the lineage of this deployment."""
    from modelway.hooks.connection import lineage_url_from_airflow
    from modelway.hooks.lineage import lineage_from_airflow
    from modelway.hooks.settings import load_settings
    from modelway.ui.app import create_app
    from modelway.ui.auth import editor, readable_dags
    from modelway.ui.editing import Editing

    editing = Editing(editor=editor, lineage=lineage_from_airflow)
    return create_app(
        store_url=lineage_url_from_airflow,
        readable_dags=readable_dags,
        editing=editing,
        artifact_root=lambda: load_settings().artifact_root,
    )
