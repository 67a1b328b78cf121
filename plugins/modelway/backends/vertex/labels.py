"""The labels by which custom jobs are found again: their keys may have no dots and slashes, as Kubernetes' may."""

import re
from collections.abc import Mapping

from modelway import names
from modelway.backends.base import Job
from modelway.platforms.deployment import digest

MANAGED = {"modelway": "job"}
RUN = "modelway-run"
DEPLOYMENT = "modelway-deployment"
#: identifies an attempt
TOKEN = "modelway-token"
#: the name of the job at an attempt, which ends with the attempt's number
NAME = "modelway-job"
MODEL = "modelway-model"
STAGE = "modelway-stage"


def attempt_labels(job: Job, *, attempt: int, token: str | None, deployment: str | None) -> dict[str, str]:
    """Return the labels of an attempt's job."""
    return {
        **MANAGED,
        RUN: digest(job.run),
        MODEL: names.slug(job.model),
        STAGE: names.slug(job.key),
        NAME: job.name(attempt),
        **({TOKEN: token} if token else {}),
        **({DEPLOYMENT: deployment} if deployment else {}),
    }


def filter_of(labels: Mapping[str, str]) -> str:
    """Return the filter of a list that selects what has these labels."""
    return " AND ".join(f"labels.{key}={value}" for key, value in labels.items())


def attempt_number(name: str) -> int:
    """Return the attempt that a job's name ends with; 0 for one that is not of that form."""
    found = re.search(r"-(\d{1,9})$", name)
    return int(found[1]) if found else 0
