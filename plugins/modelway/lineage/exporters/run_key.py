"""The one key of a run and of each of its candidates, the same at each attempt and in each system."""

import json
import uuid

from modelway.lineage.records.version import RunRecord

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:modelway:run")


def run_key(model: str, run: RunRecord) -> str:
    """Return the UUID of a run of a model."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([model, run.dag_id, run.run_id])))


def candidate_key(model: str, run: RunRecord, candidate: str) -> str:
    """Return the UUID of what a run trained as one candidate of its sweep."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([model, run.dag_id, run.run_id, candidate])))
