"""Labels by which objects on a cluster are found again."""

import os

from modelway.platforms.deployment import digest

GROUP = "modelway.dev"
DEPLOYMENT = f"{GROUP}/deployment"
MANAGED = {"app.kubernetes.io/managed-by": "modelway"}


def run_labels(*, run: str) -> dict[str, str]:
    """Return the labels of everything that belongs to a run, of this Airflow alone where MODELWAY_DEPLOYMENT is set."""
    deployment = os.environ.get("MODELWAY_DEPLOYMENT")
    return {**MANAGED, f"{GROUP}/run": digest(f"{deployment}: {run}" if deployment else run)}
