"""MLflow: a model's versions as runs of an experiment and as versions of a registered model, over its REST API.

Each call finds what an earlier one made: the run by its tag ``modelway.run``, those of a sweep's candidates by their
parent, the model's version by that run.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from modelway.errors import ExportRefused
from modelway.lineage.exporters.base import Destination, Fact
from modelway.lineage.exporters.http import Http
from modelway.lineage.exporters.mlflow.batches import LONGEST_TAG, SENT, Batch, batches, milliseconds, started
from modelway.lineage.exporters.mlflow.candidates import CANDIDATE, PARENT, candidate_batches, ended, status_of
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
        run = str(found["info"]["run_id"])
        if not _is_open(found):
            return run
        self._log(found, batches(version, run=run_key(version.summary.model, version.run)))
        if datasets := dataset_inputs(version.run.datasets):
            self._post("runs/log-inputs", {"run_id": run, "datasets": datasets})
        if version.run.candidates:
            self._candidates(experiment, run, version)
        end = milliseconds(version.summary.created_at)
        self._post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": end})
        return run

    def _log(self, found: Any, made: Sequence[Batch]) -> None:
        """Send the batches of a run that were not sent: each one's own tag is written after the rest of it."""
        tags = {tag["key"]: tag["value"] for tag in found["data"].get("tags", ())}
        for batch in made[int(tags.get(SENT, 0)) :]:
            self._post("runs/log-batch", {"run_id": found["info"]["run_id"], **batch})

    def _candidates(self, experiment: str, parent: str, version: VersionDetail) -> None:
        """Send the candidates of the version's sweep, each as a run below the version's; continue where it stopped."""
        there = self._candidate_runs(experiment, parent)
        for each in version.run.candidates:
            found = there.get(each.name)
            if found is None:
                keys = {PARENT: parent, CANDIDATE: storable(each.name)}
                found = self._new_run(experiment, version, name=each.name, tags=keys)
            if _is_open(found):
                self._log(found, candidate_batches(each, version))
                update = {"run_id": found["info"]["run_id"], "end_time": ended(each, version)}
                self._post("runs/update", update | {"status": status_of(each)})

    def _candidate_runs(self, experiment: str, parent: str) -> dict[str, Any]:
        query: dict[str, Any] = {"experiment_ids": [experiment], "filter": f"tags.`{PARENT}` = '{parent}'"}
        runs: dict[str, Any] = {}
        while True:
            found = self._post("runs/search", query | {"max_results": 1000})
            for run in found.get("runs", ()):
                runs |= {tag["value"]: run for tag in run["data"].get("tags", ()) if tag["key"] == CANDIDATE}
            if not (token := found.get("next_page_token")):
                return runs
            query["page_token"] = token

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
        key = {"modelway.run": run_key(version.summary.model, version.run)}
        return self._new_run(experiment, version, name=version.run.run_id, tags=key)

    def _new_run(self, experiment: str, version: VersionDetail, *, name: str, tags: Mapping[str, str]) -> Any:
        # The tags by which it is found again are set when the run is created.
        keys = [{"key": key, "value": value} for key, value in tags.items()]
        fields = {"experiment_id": experiment, "run_name": storable(name)[:LONGEST_TAG], "start_time": started(version)}
        return self._post("runs/create", {**fields, "tags": keys})["run"]

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


def _is_open(run: Any) -> bool:
    """Return whether something is still to be sent: the status is set at last."""
    return run["info"].get("status") in (None, "RUNNING")


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
