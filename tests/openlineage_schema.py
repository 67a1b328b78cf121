"""JSON schema of OpenLineage's events, from the classes that its project generates out of its own schema.

``openlineage-python`` holds one class for each object of the specification; this turns them back.
"""

import types
import typing
from datetime import datetime
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit
from uuid import UUID

import attr
from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client import facet_v2
from openlineage.client.generated import base

#: where the facets of each kind are, and what they are called in an event
RUN_FACETS = {
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet,
    "parent": facet_v2.parent_run.ParentRunFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
}
JOB_FACETS = {
    "documentation": facet_v2.documentation_job.DocumentationJobFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "sourceCodeLocation": facet_v2.source_code_location_job.SourceCodeLocationJobFacet,
}
DATASET_FACETS = {
    "dataSource": facet_v2.datasource_dataset.DatasourceDatasetFacet,
    "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
}
INPUT_FACETS = {"dataQualityMetrics": facet_v2.data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet}
OUTPUT_FACETS = {"outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet}
#: the formats that the specification gives its texts
_FORMATS = {
    **{"eventTime": "date-time", "nominalStartTime": "date-time", "nominalEndTime": "date-time"},
    **{"producer": "uri", "schemaURL": "uri", "_producer": "uri", "_schemaURL": "uri", "uri": "uri", "url": "uri"},
    **{"runId": "uuid"},
}
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=(TypeError, ValueError))
def is_date_time(text: Any) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


@FORMATS.checks("uri")
def is_uri(text: Any) -> bool:
    return bool(urlsplit(text).scheme) and text.isascii() and " " not in text


@FORMATS.checks("uuid", raises=(AttributeError, ValueError))
def is_uuid(text: Any) -> bool:
    return str(UUID(text)) == text


@cache
def _validator(of_dataset: bool) -> Draft202012Validator:
    schema = dataset_event_schema() if of_dataset else event_schema()
    return Draft202012Validator(schema, format_checker=FORMATS)


def problems(event: Any) -> list[str]:
    """Return what is wrong with an event: a run's, or one of a data set alone."""
    return [f"{error.json_path}: {error.message}" for error in _validator("dataset" in event).iter_errors(event)]


def event_schema() -> dict[str, Any]:
    """Return the schema of a run's event; facets that are not of the specification need only say who they are."""
    schema = _of_class(base.RunEvent)
    run, job = schema["properties"]["run"]["properties"], schema["properties"]["job"]["properties"]
    run["facets"] = _facets(RUN_FACETS, base.RunFacet)
    job["facets"] = _facets(JOB_FACETS, base.JobFacet)
    for side, kind, facets, parent in (
        ("inputs", "inputFacets", INPUT_FACETS, base.InputDatasetFacet),
        ("outputs", "outputFacets", OUTPUT_FACETS, base.OutputDatasetFacet),
    ):
        properties = schema["properties"][side]["items"]["properties"]
        properties["facets"] = _facets(DATASET_FACETS, base.DatasetFacet)
        properties[kind] = _facets(facets, parent)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def dataset_event_schema() -> dict[str, Any]:
    """Return the schema of an event about a data set alone."""
    schema = _of_class(base.DatasetEvent)
    schema["properties"]["dataset"]["properties"]["facets"] = _facets(DATASET_FACETS, base.DatasetFacet)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _facets(known: dict[str, Any], other: Any) -> dict[str, Any]:
    named = {name: _of_class(each, schema_url=each._get_schema()) for name, each in known.items()}
    return {"type": "object", "properties": named, "additionalProperties": _of_class(other, open_to_more=True)}


def _of_class(owner: Any, *, schema_url: str | None = None, open_to_more: bool = False) -> dict[str, Any]:
    hints = get_type_hints(owner)
    properties, required = {}, []
    for field in attr.fields(owner):
        properties[field.name] = _of_type(hints[field.name], field.name, within=owner)
        optional = field.default is not attr.NOTHING and field.name not in ("_producer", "_schemaURL", "producer")
        if not optional or field.name == "schemaURL":
            required.append(field.name)
    if schema_url is not None:
        properties["_schemaURL"]["const"] = schema_url
    made = {"type": "object", "properties": properties, "required": required}
    # The specification lets anything be added; what we send under a name that it does not know is a mistake of ours.
    return made if open_to_more else made | {"additionalProperties": False}


def _of_type(hint: Any, name: str, *, within: Any = None) -> dict[str, Any]:
    if get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        # A field's fields are of its own kind.
        return {"type": "array", "items": {"type": "object"} if item is within else _of_type(item, "")}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _of_type(get_args(hint)[1], "")}
    if attr.has(hint):
        return _of_class(hint, open_to_more=issubclass(hint, base.BaseFacet))
    if hint is base.EventType:
        return {"type": "string", "enum": [each.value for each in hint]}
    return {"type": _PLAIN[hint]} | ({"format": _FORMATS[name]} if name in _FORMATS else {})
