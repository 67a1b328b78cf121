"""The queues of Celery that tasks go to."""

import os
from typing import Any

from modelway.endpoints.base import endpoint_member
from modelway.spec.environments import environments_of
from modelway.spec.model import ModelSpec
from modelway.spec.several_hosts import SERVING_QUEUE


def on_serving_host(*specs: ModelSpec) -> dict[str, Any]:
    """Return the argument that sends a task to the worker whose host serves; none where nobody named its queue."""
    queue = os.environ.get(SERVING_QUEUE)
    if not queue:
        return {}
    environments = (each for spec in specs for each in environments_of(spec.model, spec.endpoint).values())
    is_of_host = any(endpoint_member(each.section.target).of_host for each in environments)
    return {"queue": queue} if is_of_host else {}
