"""The one file that Airflow's plugin loader runs: it puts the page "Models" into Airflow's navigation.

Airflow runs it in every process, tasks included, so nothing else is imported until the first request comes.
"""

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin


async def serve_pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of the api-server (an ASGI application)."""
    from modelway.ui.asgi import pages

    await pages()(scope, receive, send)


def _base_path() -> str:
    """Return the path of ``[api] base_url``, without a slash at its end: Airflow's own links begin with it."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


class ModelwayPlugin(AirflowPlugin):
    """The pages and their place in the navigation."""

    name = "modelway"
    fastapi_apps = [{"app": serve_pages, "url_prefix": "/modelway", "name": "modelway"}]
    external_views = [
        {"name": "Models", "href": f"{_base_path()}/modelway/models", "destination": "nav", "url_route": "models"}
    ]
