"""MLflow: a model's versions as runs of an experiment and as versions of a registered model, over its REST API.

Each call finds what an earlier one made: the run by its tag ``modelway.run``, the model's version by that run.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from modelway.errors import ExportRefused
from modelway.lineage.exporters.base import Destination, Fact
from modelway.lineage.exporters.http import Http
from modelway.lineage.exporters.mlflow.batches import LONGEST_TAG, SENT, batches, milliseconds, started
from modelway.lineage.exporters.mlflow.datasets import dataset_inputs
from modelway.lineage.exporters.mlflow.names import alias_name, entity_key, model_name, storable
from modelway.lineage.exporters.run_key import run_key
from modelway.lineage.records.version import VersionDetail

_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST"})
_THERE = frozenset({"RESOURCE_ALREADY_EXISTS"})


class MlflowExporter:
    """Sends to one tracking server with its registry."""

    def __init__(self, destination: Destination) -> None:
        self._http = Http(destination, what="MLflow")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def export(self, fact: Fact, *, until: float) -> None:
        """Write a version with its run, move an alias, or tag the version; see ``Exporter.export``."""
        self._http.until = until
        version = fact.version
        if version is None:
            return
        run = self._run(version)
        number = self._model_version(version, run)
        if fact.kind == "alias-set":
            alias = {"name": model_name(fact.model), "alias": alias_name(fact.detail["alias"]), "version": number}
            self._post("registered-models/alias", alias)
        elif tag := _later_tag(fact):
            self._post("model-versions/set-tag", {"name": model_name(fact.model), "version": number, **tag})

    def _run(self, version: VersionDetail) -> str:
        """Return the id of the version's run, which is complete by then."""
        experiment = self._experiment(version)
        found = self._find_run(experiment, version)
        if found is None:
            found = self._create_run(experiment, version)
        run, tags = found["info"]["run_id"], {tag["key"]: tag["value"] for tag in found["data"].get("tags", ())}
        if found["info"].get("status") == "FINISHED":
            return str(run)
        # Each batch's own tag is written after the rest of it.
        sent = int(tags.get(SENT, 0))
        for batch in batches(version, run=run_key(version.summary.model, version.run))[sent:]:
            self._post("runs/log-batch", {"run_id": run, **batch})
        if datasets := dataset_inputs(version.run.datasets):
            self._post("runs/log-inputs", {"run_id": run, "datasets": datasets})
        end = milliseconds(version.summary.created_at)
        self._post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": end})
        return str(run)

    def _experiment(self, version: VersionDetail) -> str:
        name = model_name(version.summary.model)
        found = self._get("experiments/get-by-name", {"experiment_name": name}, answers=_ABSENT).get("experiment")
        if found is None:
            made = self._post("experiments/create", {"name": name}, answers=_THERE)
            if "experiment_id" in made:
                return str(made["experiment_id"])
            found = self._get("experiments/get-by-name", {"experiment_name": name})["experiment"]
        if found["lifecycle_stage"] == "deleted":
            raise ExportRefused(f"the experiment '{name}' was deleted in MLflow", do="Restore it there")
        return str(found["experiment_id"])

    def _find_run(self, experiment: str, version: VersionDetail) -> Any:
        key = run_key(version.summary.model, version.run)
        query = {"experiment_ids": [experiment], "filter": f"tags.`modelway.run` = '{key}'", "max_results": 1}
        return next(iter(self._post("runs/search", query).get("runs", ())), None)

    def _create_run(self, experiment: str, version: VersionDetail) -> Any:
        # The tag by which it is found again is set when the run is created.
        key = {"key": "modelway.run", "value": run_key(version.summary.model, version.run)}
        name = storable(version.run.run_id)[:LONGEST_TAG]
        fields = {"experiment_id": experiment, "run_name": name, "start_time": started(version), "tags": [key]}
        return self._post("runs/create", fields)["run"]

    def _model_version(self, version: VersionDetail, run: str) -> str:
        """Return MLflow's own number of the version."""
        summary = version.summary
        name, description = model_name(summary.model), storable(summary.description)
        found = self._get("model-versions/search", {"filter": f"run_id = '{run}'"})
        for each in found.get("model_versions", ()):
            if each["name"] == name:
                return str(each["version"])
        tag = {"key": "modelway.model", "value": storable(summary.model)}
        self._post("registered-models/create", {"name": name, "tags": [tag]}, answers=_THERE)
        tags = {
            "modelway.version": summary.number,
            "modelway.run": run_key(summary.model, version.run),
            "modelway.archive": summary.archive_uri,
            "modelway.archive_digest": summary.archive_digest,
            "modelway.model_digest": summary.model_digest,
            "modelway.checkpoint": summary.checkpoint,
        }
        fields = {
            "name": name,
            "run_id": run,
            "description": description,
            "tags": [{"key": key, "value": storable(str(value))} for key, value in tags.items()],
        }
        try:
            made = self._post("model-versions/create", fields | {"source": _source(summary.archive_uri)})
        except ExportRefused:
            # It checks paths against its own disk, links included.
            source = f"modelway-archive:///{summary.archive_digest.removeprefix('sha256:')}"
            made = self._post("model-versions/create", fields | {"source": source})
        return str(made["model_version"]["version"])

    def _get(self, path: str, params: Mapping[str, str], *, answers: frozenset[str] = frozenset()) -> dict[str, Any]:
        return self._http.request("GET", f"{_API}/{path}", params=params, answers=answers)

    def _post(self, path: str, body: Mapping[str, Any], *, answers: frozenset[str] = frozenset()) -> dict[str, Any]:
        return self._http.request("POST", f"{_API}/{path}", body=body, answers=answers)


_API = "api/2.0/mlflow"


def _later_tag(fact: Fact) -> dict[str, str] | None:
    """Return the tag of what happened to a version after it was registered."""
    detail = fact.detail
    if fact.kind == "image-built":
        return {"key": entity_key(f"modelway.image.{detail['builder']}"), "value": storable(detail["reference"])}
    if fact.kind == "weight-set":
        return {"key": entity_key(f"modelway.weight.{detail['endpoint']}"), "value": str(detail["weight"])}
    return None


def _source(uri: str) -> str:
    """Return where the archive is; MLflow rejects local paths, which it would read on its own machine."""
    return f"modelway-{uri}" if urlsplit(uri).scheme == "file" else uri
