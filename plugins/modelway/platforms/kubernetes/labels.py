"""Labels by which objects on a cluster are found again."""

import hashlib
import os

GROUP = "modelway.dev"
MANAGED = {"app.kubernetes.io/managed-by": "modelway"}


def digest(text: str) -> str:
    """Return a short digest that may stand in a label."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_labels(*, run: str) -> dict[str, str]:
    """Return the labels of everything that belongs to one run of this Airflow.

    ``MODELWAY_DEPLOYMENT`` tells Airflows apart that have runs of the same name.
    """
    deployment = os.environ.get("MODELWAY_DEPLOYMENT")
    return {**MANAGED, f"{GROUP}/run": digest(f"{deployment}: {run}" if deployment else run)}
