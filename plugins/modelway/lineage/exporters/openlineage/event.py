"""Facts as events of OpenLineage (https://openlineage.io/spec/2-0-2/OpenLineage.json): pure, the same each time."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import quote, urlsplit

from modelway.lineage.exporters.base import Fact
from modelway.lineage.exporters.run_key import run_key
from modelway.lineage.records.addresses import public_address
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import DatasetRecord, RunRecord, VersionDetail

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
DATASET_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/DatasetEvent"
#: the versions of the facets' schemas; our own one is in docs/exporters.md
_FACETS = {
    "DataQualityMetricsInputDatasetFacet": "1-0-3",
    "DatasetTypeDatasetFacet": "1-0-1",
    "DatasetVersionDatasetFacet": "1-0-1",
    "DatasourceDatasetFacet": "1-0-1",
    "DocumentationJobFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "JobTypeJobFacet": "2-0-4",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeLocationJobFacet": "1-1-0",
}
_TYPES = {
    "run-started": "START",
    "run-failed": "FAIL",
    "version-registered": "COMPLETE",
    "version-reused": "COMPLETE",
}
#: our own facets of the model as a data set: their names and the names of their schemas
_OF_VERSIONS = {
    "image-built": ("modelway_image", "ModelwayImageDatasetFacet"),
    "weight-set": ("modelway_serving", "ModelwayServingDatasetFacet"),
}
_KEYS = {"run_id": "runId"}
#: characters that are not escaped in a URI, besides letters and digits
_OF_URIS = "/:?#[]@!$&'()*+,;=%-._~"
#: the names of a column's statistics here and in OpenLineage
_COUNTS = {"missing": "nullCount", "distinct": "distinctCount"}
_NUMBERS = {"count": "count", "sum": "sum", "min": "min", "max": "max"}


def run_event(fact: Fact, *, namespace: str) -> dict[str, Any]:
    """Return the event of a fact.

    :param namespace: of our jobs
    """
    # A run that reused a version trained nothing: it has no output.
    made = fact.version if fact.kind == "version-registered" else None
    # The version's own run is the one that made it, not the one that reused it.
    run = _run_that_reused(fact) if fact.kind == "version-reused" else fact.run
    return {
        "eventType": _TYPES[fact.kind],
        "eventTime": fact.at.isoformat(),
        "producer": producer(),
        "schemaURL": SCHEMA,
        "run": {"runId": run_key(fact.model, run), "facets": _run_facets(fact, run)},
        "job": {"namespace": namespace, "name": job_name(fact.model, run), "facets": _job_facets(fact, run)},
        "inputs": _inputs(run.datasets),
        "outputs": [_output(made, namespace)] if made else [],
    }


def version_event(fact: Fact, *, namespace: str) -> dict[str, Any]:
    """Return the event of what happened to a version after its run: the model as a data set, in that state.

    :param namespace: of our jobs
    """
    number = str(fact.version.summary.number) if fact.version else ""
    name, kind = _OF_VERSIONS[fact.kind]
    own = {"_producer": producer(), "_schemaURL": f"urn:modelway:facets:1-0-0:{kind}", "version": number}
    detail = {_KEYS.get(key, key): plain(each) for key, each in fact.detail.items() if each is not None}
    facets = {
        "version": facet("DatasetVersionDatasetFacet", datasetVersion=number),
        "datasetType": facet("DatasetTypeDatasetFacet", datasetType="MODEL"),
        name: own | detail,
    }
    return {
        "eventTime": fact.at.isoformat(),
        "producer": producer(),
        "schemaURL": DATASET_SCHEMA,
        "dataset": {"namespace": namespace, "name": fact.model, "facets": facets},
    }


def producer() -> str:
    """Return the producer of the event, as a URI."""
    return f"urn:modelway:{_installed('modelway') or 'unknown'}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _run_that_reused(fact: Fact) -> RunRecord:
    return RunRecord(dag_id=fact.detail["dag_id"], run_id=fact.detail["run_id"], actor=fact.detail["actor"])


def job_name(model: str, run: RunRecord) -> str:
    """Return the name of the job that a run belongs to."""
    return model if run.dag_id == model else f"{run.dag_id}.{model}"


def facet(kind: str, /, **fields: Any) -> dict[str, Any]:
    """Return a facet of the specification; fields that are None are left out."""
    url = f"https://openlineage.io/spec/facets/{_FACETS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": producer(), "_schemaURL": url} | {
        key: each for key, each in fields.items() if each is not None
    }


def error_facet(message: str) -> dict[str, Any]:
    """Return the facet of a run that failed."""
    return facet("ErrorMessageRunFacet", message=message, programmingLanguage="PYTHON")


def training_facet() -> dict[str, Any]:
    """Return the facet that says what kind of job a training is."""
    return facet("JobTypeJobFacet", processingType="BATCH", integration="MODELWAY", jobType="TRAINING")


def _run_facets(fact: Fact, run: RunRecord) -> dict[str, Any]:
    facets = {"modelway_model": _model_facet(fact, run)}
    if run.interval_start is not None:
        end = run.interval_end and run.interval_end.isoformat()
        nominal = {"nominalStartTime": run.interval_start.isoformat(), "nominalEndTime": end}
        facets["nominalTime"] = facet("NominalTimeRunFacet", **nominal)
    if airflow := _installed("apache-airflow-core"):
        engine = {"version": airflow, "name": "Airflow", "openlineageAdapterVersion": _installed("modelway")}
        facets["processing_engine"] = facet("ProcessingEngineRunFacet", **engine)
    if fact.kind == "run-failed":
        message = " ".join(filter(None, (fact.detail.get("error"), fact.detail.get("advice"))))
        facets["errorMessage"] = error_facet(message)
    return facets


def _model_facet(fact: Fact, run: RunRecord) -> dict[str, Any]:
    """Return what none of OpenLineage's own facets can express."""
    fields: dict[str, Any] = {
        "model": fact.model,
        "dagId": run.dag_id,
        "runId": run.run_id,
        "runType": run.run_type,
        "actor": run.actor,
        "reason": run.reason,
        "seed": run.seed,
        "codeDigest": run.code_digest,
        "commit": run.commit,
        "dirty": run.dirty,
        "inputsDigest": run.inputs_digest,
        "partition": run.partition,
    }
    if (found := fact.version) is not None:
        fields |= {
            "version": found.summary.number,
            "archiveUri": found.summary.archive_uri,
            "archiveDigest": found.summary.archive_digest,
            "modelDigest": found.summary.model_digest,
            "checkpoint": found.summary.checkpoint,
            "checkpointDigest": found.summary.checkpoint_digest,
            "metrics": plain(found.summary.metrics),
        }
    known = {key: each for key, each in fields.items() if each is not None}
    return {"_producer": producer(), "_schemaURL": "urn:modelway:facets:1-0-0:ModelwayModelRunFacet"} | known


def _job_facets(fact: Fact, run: RunRecord) -> dict[str, Any]:
    facets = {"jobType": training_facet()}
    if run.repository and run.commit:
        url = _web_address(run.repository)
        place = {"type": "git", "url": url, "repoUrl": run.repository, "version": run.commit, "branch": run.branch}
        facets["sourceCodeLocation"] = facet("SourceCodeLocationJobFacet", **place)
    if fact.version is not None and fact.version.summary.description:
        facets["documentation"] = facet("DocumentationJobFacet", description=fact.version.summary.description)
    return facets


def _web_address(repository: str) -> str:
    """Return a repository as a URI; git also writes ``git@host:path``."""
    if "://" in repository:
        return _as_uri(repository)
    short = re.fullmatch(r"(?:[^@/]+@)?([^:/]+):(.+)", repository)
    return _as_uri(f"ssh://git@{short[1]}/{short[2]}" if short else repository)


def _as_uri(text: str) -> str:
    """Return an address as a URI: a bare path is a file's, and characters that a URI cannot have are escaped."""
    if text.startswith("ssh://git@"):
        return quote(text, safe=_OF_URIS)
    address = quote(public_address(text), safe=_OF_URIS)
    return address if urlsplit(address).scheme else f"file://{address}"


def _inputs(datasets: Iterable[DatasetRecord]) -> list[dict[str, Any]]:
    """Return the data sets, each once however many stages read it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for dataset in datasets:
        namespace, name = dataset_place(dataset.uri, dataset.name)
        fields = {"namespace": namespace, "name": name, "facets": _dataset_facets(dataset)}
        if dataset.rows is not None or dataset.statistics:
            fields["inputFacets"] = {"dataQualityMetrics": _quality(dataset)}
        found.setdefault((namespace, name), fields)
    return list(found.values())


def dataset_place(uri: str, name: str) -> tuple[str, str]:
    """Return namespace and name of a data set as OpenLineage makes them of its address.

    :param name: for an address without a path
    """
    parts = urlsplit(public_address(uri))
    if parts.scheme in ("", "file"):
        return "file", parts.path or name
    if not parts.netloc:
        return parts.scheme, parts.path or name
    path = parts.path.strip("/")
    return (f"{parts.scheme}://{parts.netloc}", path) if path else (parts.scheme, parts.netloc)


def _dataset_facets(dataset: DatasetRecord) -> dict[str, Any]:
    place = {"name": dataset.name, "uri": _as_uri(dataset.uri)}
    facets = {"dataSource": facet("DatasourceDatasetFacet", **place)}
    if state := dataset.version or dataset.digest:
        facets["version"] = facet("DatasetVersionDatasetFacet", datasetVersion=state)
    if dataset.schema:
        fields = [{"name": name, "type": kind} for name, kind in dataset.schema.items()]
        facets["schema"] = facet("SchemaDatasetFacet", fields=fields)
    return facets


def _quality(dataset: DatasetRecord) -> dict[str, Any]:
    columns = {name: _column(fields) for name, fields in (dataset.statistics or {}).items()}
    return facet("DataQualityMetricsInputDatasetFacet", rowCount=dataset.rows, columnMetrics=columns)


def _column(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a column's statistics that OpenLineage knows and that are numbers."""
    counts = {there: fields[here] for here, there in _COUNTS.items() if _is_number(fields.get(here))}
    numbers = {there: float(fields[here]) for here, there in _NUMBERS.items() if _is_number(fields.get(here))}
    return {name: int(value) for name, value in counts.items()} | numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _output(version: VersionDetail, namespace: str) -> dict[str, Any]:
    """Return the model as a data set; each of its versions is a state of it."""
    summary = version.summary
    return {
        "namespace": namespace,
        "name": summary.model,
        "facets": {
            "version": facet("DatasetVersionDatasetFacet", datasetVersion=str(summary.number)),
            "datasetType": facet("DatasetTypeDatasetFacet", datasetType="MODEL"),
            "dataSource": facet("DatasourceDatasetFacet", name=summary.model, uri=_as_uri(summary.archive_uri)),
        },
        "outputFacets": {
            "outputStatistics": facet(
                "OutputStatisticsOutputDatasetFacet", size=summary.archive_size, fileCount=len(version.files)
            )
        },
    }
