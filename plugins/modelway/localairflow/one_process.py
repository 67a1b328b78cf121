"""Airflow inside the process of one run: what ``dag.test()`` needs, without what only many clients would need."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.localairflow.database import is_migrated, record_migrated

if TYPE_CHECKING:
    from fastapi import APIRouter

#: Cadwyn's mark of a route that only clients of older releases call
_OLDER = "_CADWYN_DELETED_ROUTE"


def migrate() -> None:
    """Bring the database of ``AIRFLOW_HOME`` to the installed Airflow, once: here Airflow is imported already."""
    folder = Path(os.environ["AIRFLOW_HOME"])
    if is_migrated(folder):
        return
    from airflow.utils.db import upgradedb

    upgradedb()
    record_migrated(folder)


def serve_one_api_version() -> None:
    """Let Airflow make its in-process execution API in the installed version alone.

    It makes the routes again for each earlier version, which takes 5 seconds of CPU before the first task; the only
    client here is of the installed version.
    """
    from airflow.api_fastapi.execution_api import app as execution_api
    from fastapi import FastAPI

    class OneVersion(FastAPI):
        """The same routes without the versions of Cadwyn."""

        def __init__(
            self, *, versions: Any, api_version_parameter_name: str, api_version_default_value: str, **kwargs: Any
        ) -> None:
            super().__init__(**kwargs)

        def generate_and_include_versioned_routers(self, *routers: "APIRouter") -> None:
            for router in routers:
                self.include_router(router)
            self.router.routes[:] = [each for each in self.router.routes if _OLDER not in getattr(each, "tags", ())]

    # An Airflow that makes it otherwise is left as it is.
    if hasattr(execution_api, "CadwynWithOpenAPICustomization"):
        execution_api.CadwynWithOpenAPICustomization = OneVersion  # type: ignore[misc,assignment]
