"""A candidate of a sweep as an event of OpenLineage: a run of its own, whose parent is the run of the version."""

from typing import Any

from modelway.lineage.exporters.base import Fact
from modelway.lineage.exporters.openlineage.event import SCHEMA, error_facet, facet, job_name, producer, training_facet
from modelway.lineage.exporters.run_key import candidate_key, run_key

#: what a training that ended early or failed is; every other one is complete
_TYPES = {"stopped": "ABORT", "failed": "FAIL"}
_KEYS = {"cpu_seconds": "cpuSeconds", "gpu_seconds": "gpuSeconds"}


def candidate_event(fact: Fact, *, namespace: str) -> dict[str, Any]:
    """Return the event of what became of a candidate.

    :param namespace: of our jobs
    """
    candidate, job = dict(fact.detail["candidate"]), job_name(fact.model, fact.run)
    known = {_KEYS.get(key, key): each for key, each in candidate.items() if each not in (None, "")}
    own = {"_producer": producer(), "_schemaURL": "urn:modelway:facets:1-0-0:ModelwayCandidateRunFacet"}
    parent = {"run": {"runId": run_key(fact.model, fact.run)}, "job": {"namespace": namespace, "name": job}}
    facets = {
        "parent": facet("ParentRunFacet", **parent),
        "modelway_candidate": own | {"model": fact.model, "version": fact.detail["of_version"]} | known,
    }
    if candidate["state"] == "failed":
        facets["errorMessage"] = error_facet(candidate["reason"] or "the training failed")
    return {
        "eventType": _TYPES.get(candidate["state"], "COMPLETE"),
        "eventTime": fact.at.isoformat(),
        "producer": producer(),
        "schemaURL": SCHEMA,
        "run": {"runId": candidate_key(fact.model, fact.run, candidate["name"]), "facets": facets},
        "job": {"namespace": namespace, "name": f"{job}.candidate", "facets": {"jobType": training_facet()}},
        "inputs": [],
        "outputs": [],
    }
