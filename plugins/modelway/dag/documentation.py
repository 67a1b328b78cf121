"""The documentation of a model's DAG and tasks, in Markdown; the same text for the same spec."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk.configuration import conf

from modelway.fields.units import format_duration, format_size
from modelway.spec.gates import Gate, VersionGate
from modelway.spec.model import Evaluation, ModelSpec, Stage
from modelway.spec.search import ETA, SearchSection
from modelway.spec.sections import ScheduleSection

#: characters with a meaning in Markdown or HTML: anywhere, and at the beginning of a paragraph
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#!$])")
_AT_THE_BEGINNING = re.compile(r"^(\d+(?=[.)])|(?=[-+=]))")
_PRESETS = {
    "@hourly": "every hour",
    "@daily": "every day at midnight",
    "@midnight": "every day at midnight",
    "@weekly": "every Sunday at midnight",
    "@monthly": "on the first of every month",
    "@quarterly": "on the first day of every quarter",
    "@yearly": "on 1 January",
    "@annually": "on 1 January",
}
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def model_page(spec: ModelSpec) -> str:
    """Return the summary of a model: its training, data sets, gates, rollout and links."""
    parts = [
        *([prose(spec.description)] if spec.description.strip() else []),
        _sentence(spec),
        _table(("Setting", "Value"), _settings(spec)),
        "### Stages\n\n" + _table(("Stage", "Backend", "Parameters", "Resources", "Timeout"), _stages(spec)),
    ]
    if spec.datasets:
        rows = [(code(name), code(each.uri), _pinned(each)) for name, each in spec.datasets.items()]
        parts.append("### Data sets\n\n" + _table(("Name", "URI", "State"), rows))
    if spec.verify.gates:
        gates = [(code(name), code(_gate(gate))) for name, gate in spec.verify.gates.items()]
        parts.append("### Gates\n\n" + _table(("Metric", "Must be"), gates))
    parts.append(_links(spec.model))
    return "\n\n".join(parts) + "\n"


def _gate(gate: Gate | VersionGate) -> str:
    return f"{gate.op} {gate.limit:.12g}" if isinstance(gate, Gate) else str(gate)


def stage_page(stage: Stage, *, stages: int) -> str:
    """Return one line about a training task."""
    return f"Trains stage {code(stage.name)}, {stage.index + 1} of {stages}, as one job on {code(stage.backend)}"


def prose(text: str) -> str:
    """Return literal text: characters with a meaning in Markdown or HTML are escaped, line ends are spaces.

    A bare web address stays one, and the page shows it as a link.
    """
    return _AT_THE_BEGINNING.sub(r"\1\\", _SPECIAL.sub(r"\\\1", " ".join(_printable(text).split())))


def code(text: str) -> str:
    """Return text as code that is safe in a table cell, whatever it contains."""
    text = " ".join(_printable(text).split()).replace("|", "\\|")
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def describe_schedule(schedule: ScheduleSection | None, *, on_event: bool) -> str:
    """Return when runs start, in plain English where the cron expression is simple."""
    whens = []
    if schedule is not None and schedule.cron is not None:
        described = _describe_cron(schedule.cron)
        zone = prose(schedule.timezone)
        whens.append(
            f"{described}, {zone} ({code(schedule.cron)})" if described else f"cron {code(schedule.cron)}, {zone}"
        )
    whens += [f"an event of {code(uri)}" for uri in (schedule.assets if schedule else ())]
    if on_event:
        whens.append("an event that requests a retraining")
    return "; ".join(whens) or "when triggered by a user"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _describe_cron(cron: str) -> str | None:
    if cron in _PRESETS:
        return _PRESETS[cron]
    match = re.fullmatch(r"([0-9]{1,2}) ([0-9]{1,2}|\*) \* \* ([0-7]|\*)", cron)
    if match is None or (match[2] == "*" and match[3] != "*"):
        return None
    minute, hour, weekday = int(match[1]), match[2], match[3]
    if hour == "*":
        return f"every hour at minute {minute}"
    day = "every day" if weekday == "*" else f"every {_WEEKDAYS[int(weekday)]}"
    return f"{day} at {int(hour):02}:{minute:02}"


def _sentence(spec: ModelSpec) -> str:
    count = len(spec.train.stages)
    best = "least" if spec.select.mode == "min" else "greatest"
    stages = "one stage" if count == 1 else f"{count} stages"
    limits = " and ".join(code(f"{name} {gate}") for name, gate in spec.select.constraints.items())
    within = f" of those with {limits}" if limits else ""
    return (
        f"Trains **{prose(spec.model)}** in {stages}, evaluates every checkpoint, selects the one with the {best} "
        f"{code(spec.select.metric)}{within}, freezes and verifies it, registers it as {code(spec.register_.alias)}, "
        "and serves it."
    )


def _settings(spec: ModelSpec) -> Iterable[tuple[str, str]]:
    yield "Owner", prose(spec.owner)
    yield "Starts", describe_schedule(spec.schedule, on_event=spec.monitor.starts_runs)
    if spec.schedule is not None and spec.schedule.start is not None:
        yield "First interval", prose(spec.schedule.start)
    if spec.search is not None:
        yield "Candidates", _search(spec.search)
    if spec.train.base is not None:
        yield "Continues from", f"version {code(spec.train.base)}"
    if spec.reuse == "same-inputs":
        yield "Same inputs as before", "reuses the version that they produced"
    steps = " → ".join(f"{step if isinstance(step, int) else step.weight} %" for step in spec.rollout.steps)
    yield (
        "Traffic",
        f"{steps}, at least {format_duration(spec.rollout.interval_seconds)} each, then {code(spec.rollout.alias)}",
    )
    platform = (f"{key} {code(str(value))}" for key, value in spec.endpoint.platform().items() if value is not None)
    yield "Served by", ", ".join((code(spec.endpoint.target), *platform))
    for each in spec.endpoint.predictors:
        served = f"{code(each.model or spec.model)} {code(each.version)}"
        share = f"weight {each.weight}, and {spec.endpoint.weight} of what the runs deploy"
        yield "Served beside it", f"{code(each.name)}: {served}, {share}"
    yield "Attempts", f"{spec.retries + 1}, {format_duration(spec.retry_delay_seconds)} apart"
    if spec.deadline_seconds is not None:
        yield "Deadline", format_duration(spec.deadline_seconds)
    if spec.pool is not None:
        yield "Pool of the jobs", f"{code(spec.pool)}, made under Admin → Pools"


def _search(search: SearchSection) -> str:
    """Return how many candidates are trained, and what of them is searched."""
    count = search.candidates or search.size
    searched = ", ".join(code(name) for name in search.params)
    best = f", of which the best of {search.eta or ETA} train the next stage" if search.method == "halving" else ""
    return f"{count:,} by {search.method} over {searched}, {search.parallel} at a time{best}"


def _stages(spec: ModelSpec) -> Iterable[Sequence[str]]:
    for stage in spec.stages():
        yield (code(stage.name), code(stage.backend), _params(stage.params), _resources(stage), _timeout(stage))
    evaluation = spec.evaluation()
    own = (_params(spec.evaluate.params), _resources(evaluation), _timeout(evaluation))
    yield (f"*each evaluation job, {evaluation.parallel} at a time*", code(evaluation.backend), *own)


def _params(params: Mapping[str, Any]) -> str:
    return ", ".join(code(f"{name}={json.dumps(value, ensure_ascii=False)}") for name, value in params.items())


def _resources(job: Stage | Evaluation) -> str:
    resources = job.resources
    parts = [
        f"{resources.cpu:g} CPU" if resources.cpu else "",
        format_size(resources.memory_bytes) if resources.memory_bytes else "",
        f"{resources.gpu} GPU" if resources.gpu else "",
    ]
    return ", ".join(filter(None, parts))


def _timeout(job: Stage | Evaluation) -> str:
    return format_duration(job.timeout_seconds) if job.timeout_seconds else ""


def _pinned(dataset: Any) -> str:
    return code(dataset.digest or dataset.version or "")


def _links(model: str) -> str:
    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return (
        f"[Its versions]({base}/modelway/models/{quote(model)}) · [All models]({base}/plugin/models) · "
        f"in a terminal: `modelway versions {model}`"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
