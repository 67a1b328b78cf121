"""Airflow's own login and permissions: the only file that imports its server's internals.

These imports are not a stable interface of Airflow (3.3.2 is the version they were tried on) and cost a second of CPU,
so this file is imported by the api-server alone, on the first request.
"""

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends

from modelway.ui.editing import Editor


def readable_dags(user: Annotated[BaseUser, Depends(get_user)]) -> frozenset[str]:
    """Return the ids of the DAGs that the signed-in user may read; 401 when nobody is signed in."""
    return frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def editor(user: Annotated[BaseUser, Depends(get_user)]) -> Editor:
    """Return who is signed in, and which DAGs they may edit; 401 when nobody is."""
    dags = get_auth_manager().get_authorized_dag_ids(user=user, method="PUT")
    return Editor(name=user.get_name(), dags=frozenset(dags))
