"""The checks of the operators' arguments; those of the model spec where it has the same value."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from modelway.fields.refusal import Refusal, shown
from modelway.fields.units import LARGEST_BYTES, LONGEST_SECONDS, parse_duration, parse_size
from modelway.fields.values import ImagePath, Text
from modelway.operators._checks import (
    Check,
    Checks,
    each,
    either,
    keyed,
    listed,
    mapping,
    nested,
    of_names,
    optional,
    returned,
    typed,
)
from modelway.spec.fields import Backend, BaseImage, Builder, Command, Name, Repository, Target
from modelway.spec.gates import gate_of, parse_gate
from modelway.spec.places import GpuType, RetryRules
from modelway.spec.references import Alias, Metric, Tag, VersionReference
from modelway.spec.rollout import AnalysisSection, MinimumRequests, Steps
from modelway.spec.sections import PerJob

_COUNT = Annotated[int, Field(ge=1, le=1024)]
_NOT_NEGATIVE = Annotated[float, Field(ge=0)]


def _in_units(most: int, what: str, parse: Any, *, least: int = 1) -> Check:
    """Return the check of a whole number of bytes or seconds; a text such as 2Gi is refused with the number it means.

    :param what: what the number counts
    """
    number = typed(Annotated[int, Field(ge=least, le=most)])

    def check(value: Any, final: bool) -> Any:
        if isinstance(value, str) and not (final and value.isdecimal()):
            try:
                do = f"Write {parse(value)}"
            except Refusal as refusal:
                do = f"Write a whole number: {refusal.what}"
            raise Refusal(f"expected a number of {what}, got {shown(value)}", do=do)
        return number(value, final)

    return check


_BYTES = optional(_in_units(LARGEST_BYTES, "bytes", parse_size))
_SECONDS = optional(_in_units(LONGEST_SECONDS, "seconds", parse_duration))


def _gate(value: Any, final: bool) -> Any:
    return gate_of(value)


def _constraint(value: Any, final: bool) -> Any:
    return parse_gate(value)


def _one_of(known: Sequence[str], what: str) -> Check:
    """Return the check of a choice.

    :param what: what a known value is, for the message
    """

    def check(value: Any, final: bool) -> Any:
        if value not in known:
            raise Refusal(f"{shown(value)} is not {what}", known=known, given=str(value))
        return value

    return check


def _freeze_format(value: Any, final: bool) -> Any:
    # With what it needs: a DAG file that names no format has no use for it.
    from modelway.job.freezing.freeze import FORMATS

    return _one_of(FORMATS, "a format")(value, final)


def _file_name(value: Any, final: bool) -> Any:
    if not isinstance(value, str) or not value.endswith(".py") or Path(value).is_absolute():
        raise Refusal(f"{shown(value)} is not a Python file of the model's folder", do="Name the file: model.py")
    return value


def _folder(value: Any, final: bool) -> Any:
    if not isinstance(value, str | Path):
        raise Refusal(f"expected a folder, got {shown(value)}")
    return value


_SEED = typed(Annotated[int, Field(ge=0, lt=2**32)])


def _seed(value: Any, final: bool) -> Any:
    # The run's own seed comes from a template, as text.
    return _SEED(value, final or isinstance(value, str))


_NUMBER, _REFERENCE = typed(Annotated[int, Field(ge=1)]), typed(VersionReference)


def _version_reference(value: Any, final: bool) -> Any:
    return (_NUMBER if isinstance(value, int) else _REFERENCE)(value, final)


def _plain_params(value: Any, final: bool) -> Any:
    for name, part in mapping(value, final).items():
        try:
            json.dumps({name: part})
        except (TypeError, ValueError, RecursionError) as error:
            what = f"the job gets parameters as JSON, which this cannot be ({error})"
            raise Refusal(what, at=(str(name),), do="Write numbers, texts, lists and mappings") from None
    return value


def _validate(section: type[BaseModel], value: Any, *, strict: bool | None = None) -> None:
    try:
        section.model_validate(value, strict=strict)
    except ValidationError as error:
        from modelway.spec.check import refusal_of

        raise refusal_of(error.errors(include_url=False)[0]) from None


def _model_spec(value: Any, final: bool) -> Any:
    mapping(value, final)
    if final:
        from modelway.spec.model import ModelSpec

        _validate(ModelSpec, value)
    return value


def _or_failed(check: Check) -> Check:
    """Return a check that leaves it to a task that runs what to say of the result of one that failed: None."""
    return lambda value, final: value if value is None and final else check(value, final)


def _search(value: Any, final: bool) -> Any:
    mapping(value, final)
    from modelway.spec.search import SearchSection

    _validate(SearchSection, value)
    return value


def _serving(value: Any, final: bool) -> Any:
    mapping(value, final)
    from modelway.spec.check import refusal_of
    from modelway.spec.serving import ServingSection

    try:
        ServingSection.model_validate(value)
    except ValidationError as error:
        # The value of a template is missing until the task runs.
        found = [each for each in error.errors(include_url=False) if final or each["type"] != "missing"]
        if found:
            raise refusal_of(found[0]) from None
    return value


def _analysis(value: Any, final: bool) -> Any:
    # A rendered template is text.
    _validate(AnalysisSection, mapping(value, final), strict=not final)
    return value


CODE = returned("PackageCodeOperator or PlanRunOperator", "model", "module", "uri", "digest")
CHECKPOINT = returned("TrainModelOperator, a checkpoint", "id", "uri", "digest", "size")
CHECKPOINTS = each(nested(CHECKPOINT, of="checkpoints"), of="checkpoints")
_CANDIDATE = returned("DrawCandidatesOperator or ChooseCandidatesOperator, a candidate", "id", "params")
CANDIDATE = optional(_CANDIDATE)
CANDIDATES = _or_failed(each(_or_failed(nested(_CANDIDATE, of="candidates")), of="candidates"))
SEARCH = _search
METHOD = _one_of(("grid", "random", "halving"), "a method")
ALLOWED_FAILURES = optional(typed(Annotated[int, Field(ge=0, le=1000)]))
OPTIONAL_COUNT = optional(typed(_COUNT))
STAGES = each(typed(Name), of="names of stages")
OPTIONAL_NAMES = optional(each(typed(str), of="names"))
SWEEP = optional(returned("SelectCandidateOperator as its sweep", "method", "selected", "candidates"))
START_FROM = optional(each(CHECKPOINT, of="checkpoints"))
EVALUATIONS = optional(listed("evaluations"))
_REPORT = returned("TrainModelOperator as its report", "stage")
REPORTS = optional(each(nested(_REPORT, of="reports"), of="reports"))
SELECTED = returned("SelectCheckpointOperator", "checkpoint", "metrics")
ARCHIVE = returned("FreezeModelOperator", "uri", "digest", "size")
VERIFIED = returned("VerifyModelOperator")
EVALUATED_VERSIONS = optional(each(returned("EvaluateVersionOperator", "reference", "version"), of="versions"))
OPTIONAL_SELECTED, OPTIONAL_ARCHIVE, OPTIONAL_VERIFIED = map(optional, (SELECTED, ARCHIVE, VERIFIED))
VERSION = returned("RegisterModelOperator or FindVersionOperator", "model", "version", "archive")
IMAGE = returned("BuildImageOperator", "digest", "reference")
DEPLOYMENT = returned("DeployModelOperator", "endpoint")
SPEC = _model_spec
MODEL = typed(Name)
MODULE = _file_name
FOLDER = optional(_folder)
STAGE = typed(Name)
PARAMS = optional(_plain_params)
SEED = _seed
COMMAND = optional(typed(Command))
FREEZE_FORMAT = _freeze_format
BACKEND = typed(Backend)
BUILDER = typed(Builder)
TARGET = typed(Target)
PLATFORM = optional(mapping)
SERVING = optional(_serving)
FLAG = typed(bool)
ENDPOINT = optional(typed(Name))
WHEN_BUSY = _one_of(("wait", "replace", "refuse"), "a policy")
ROLLOUT_MODE = _one_of(("canary", "ab"), "a mode of a rollout")
ENVIRONMENT = optional(typed(Text))
ENVIRONMENTS = optional(mapping)
IMAGE_PATH = typed(ImagePath)
BASE_IMAGE = typed(BaseImage)
REPOSITORY = optional(typed(Repository))
TAG = typed(Tag)
ALIAS = typed(Alias)
OPTIONAL_ALIAS = optional(ALIAS)
STEPS = typed(Steps)
MINIMUM_REQUESTS = typed(MinimumRequests)
ANALYSIS = optional(_analysis)
INTERVAL = _in_units(LONGEST_SECONDS, "seconds", parse_duration, least=0)
PARALLEL = typed(Annotated[int, Field(ge=1, le=1000)])
PER_JOB = typed(PerJob)
VERSION_REFERENCE = _version_reference
METRIC = typed(Metric)
MODE = _one_of(("max", "min"), "a mode")
GATES = optional(of_names(METRIC, _gate))
CONSTRAINTS = optional(of_names(METRIC, _constraint))
TOLERANCE = optional(keyed({"absolute": typed(_NOT_NEGATIVE), "relative": typed(_NOT_NEGATIVE)}))

_OPTIONS: Checks = {
    "cpu": optional(typed(Annotated[float, Field(gt=0, le=1024)])),
    "memory_bytes": _BYTES,
    "disk_bytes": _BYTES,
    "gpu": typed(Annotated[int, Field(ge=0, le=64)]),
    "gpu_type": typed(GpuType),
    "nodes": typed(_COUNT),
    "processes_per_node": typed(Annotated[int, Field(ge=1, le=64)]),
    "timeout_seconds": _SECONDS,
    "image": optional(typed(Annotated[str, Field(min_length=1, max_length=500)])),
    "storage": optional(mapping),
    "platform": mapping,
    "retry_rules": typed(RetryRules),
}
_UNITS = {
    "memory": "Write memory_bytes, in bytes: 2Gi is 2147483648",
    "disk": "Write disk_bytes, in bytes: 20Gi is 21474836480",
    "timeout": "Write timeout_seconds, in seconds: 2h is 7200",
}
OPTIONS = optional(keyed(_OPTIONS, hints=_UNITS))


ONE_OR_SEVERAL = either(each(CHECKPOINT, of="checkpoints"), CHECKPOINT)
