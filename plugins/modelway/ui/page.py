"""Templates to answers: where links point, how values are written, what a page may load."""

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from modelway.lineage.graph.tree import TreeStep, tree
from modelway.lineage.records.answers import LineageGraph
from modelway.lineage.records.difference import Change, EnvironmentDifference
from modelway.lineage.records.readable import bytes_text, digest_text, number_text, plural, seconds_text, time_text
from modelway.lineage.records.rollout import step_texts
from modelway.lineage.records.sweep import ranked, searched_params
from modelway.lineage.records.values import plain
from modelway.lineage.records.verification import verified_text
from modelway.lineage.records.version import CandidateRecord, EvaluationRecord, FailureRecord, VersionSummary
from modelway.ui.charts.bars import importance_bars
from modelway.ui.charts.candidates import candidate_lines
from modelway.ui.charts.curves import overlaid_curves
from modelway.ui.charts.figures import chart, figure_title, training_charts
from modelway.ui.charts.history import metric_by_version, weights_over_time
from modelway.ui.charts.parallel import parallel_coordinates
from modelway.ui.endpoint_counts import errors_over_time, requests_over_time, rows_over_time
from modelway.ui.health import GOOD
from modelway.ui.listing import ORDERS
from modelway.ui.static import static_path

_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)


def page(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Return a template as a page that loads nothing from elsewhere.

    Every link begins with the path under which Airflow mounted the pages (``here``) or Airflow itself (``airflow``),
    so the pages also work behind ``[api] base_url`` with a path.
    """
    here = request.scope.get("root_path", "")
    airflow = request.scope.get("app_root_path", "")
    nonce = secrets.token_urlsafe(16)
    query = request.url.query
    back = quote(f"{request.url.path}?{query}" if query else request.url.path, safe="/")
    places = {"here": here, "airflow": airflow, "back": back}
    text = _environment.get_template(template).render(places, nonce=nonce, status=status, **values)
    answer = HTMLResponse(text, status_code=status, headers=dict(headers or {}))
    answer.headers["content-security-policy"] = _POLICY.format(nonce=nonce)
    answer.headers["cache-control"] = "no-store"
    return answer


def model_path(request: Request, model: str) -> str:
    """Return the path of a model's page."""
    return f"{request.scope['root_path']}/models/{quote(model, safe='')}"


def metric_names(records: Sequence[VersionSummary | EvaluationRecord | CandidateRecord], *, most: int = 6) -> list[str]:
    """Return the metrics that have a column: those of the most records first."""
    counts = Counter(name for record in records for name in record.metrics)
    return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]


@dataclass(frozen=True, kw_only=True)
class TreeLine:
    """A line of a lineage tree; ``place`` counts them, ``first`` is where the same thing came first."""

    step: TreeStep
    place: int
    first: int


def tree_lines(graph: LineageGraph) -> list[TreeLine]:
    """Return a lineage graph as the lines of its tree."""
    firsts: dict[str, int] = {}
    return [
        TreeLine(step=step, place=place, first=firsts.setdefault(step.node.id, place))
        for place, step in enumerate(tree(graph))
    ]


def environments(found: Sequence[EnvironmentDifference]) -> list[tuple[list[str], tuple[Change, ...]]]:
    """Return the differences of environments, each once, with the stages that have it."""
    stages: dict[str, list[str]] = {}
    changes: dict[str, tuple[Change, ...]] = {}
    for each in found:
        found_here = (*each.changes, *each.packages)
        stages.setdefault(repr(found_here), []).append(each.stage)
        changes[repr(found_here)] = found_here
    return [(stages[key], changes[key]) for key in stages]


@dataclass(frozen=True, kw_only=True)
class FailedTasks:
    """The failed attempts of a run: of tasks that failed once, and by task where it failed several times."""

    once: tuple[FailureRecord, ...]
    several: Mapping[str, tuple[FailureRecord, ...]]


def by_task(failures: Sequence[FailureRecord]) -> FailedTasks:
    """Return failed attempts by what failed, in the order in which each failed first."""
    found: dict[str, list[FailureRecord]] = {}
    for each in failures:
        found.setdefault(each.key, []).append(each)
    return FailedTasks(
        once=tuple(each for attempts in found.values() for each in attempts if len(attempts) == 1),
        several={
            key: tuple(sorted(attempts, key=lambda each: each.attempt))
            for key, attempts in found.items()
            if len(attempts) > 1
        },
    )


def run_place(run: str, model: str) -> tuple[str, str]:
    """Return the DAG and the id of a run that answers a request, whose DAG is the model's where it names none."""
    dag, sign, name = run.partition("/")
    return (dag, name) if sign else (model, run)


def written(value: Any) -> str:
    """Write one side of a change: text as it is, anything else as JSON."""
    data = plain(value)
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


#: where the page of a commit is, by a part of the host's name
_COMMITS = {"github": "commit", "gitlab": "-/commit", "bitbucket": "commits"}
_REPOSITORY = re.compile(r"(?:https://|ssh://git@|git@)([\w.-]+)[/:]([\w.~/-]+?)(?:\.git)?/?")


def commit_page(repository: str | None, commit: str | None) -> str | None:
    """Return the address of a commit's page where its repository is on a known host; None elsewhere."""
    found = _REPOSITORY.fullmatch(repository or "")
    if found is None or not re.fullmatch(r"[0-9a-f]{7,64}", commit or ""):
        return None
    path = next((path for name, path in _COMMITS.items() if name in found[1]), None)
    return None if path is None else f"https://{found[1]}/{found[2]}/{path}/{commit}"


#: what pages write for a value that is not known
_NONE = "–"
_number = partial(number_text, none=_NONE)
_time_text = partial(time_text, zone=" UTC", none=_NONE)


def time_element(value: datetime | None, *, to: str = "seconds") -> Markup:
    """Return a time that the page's script writes in the zone of the user; without the script it is in UTC."""
    if value is None:
        return Markup(_NONE)
    written_so = Markup('<time datetime="{}" data-to="{}">{}</time>')
    return written_so.format(value.astimezone(UTC).isoformat(), to, _time_text(value, to=to))


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        verified_text=verified_text,
        step_texts=step_texts,
        time=time_element,
        digest=partial(digest_text, none=_NONE),
        bytes=bytes_text,
        chart=chart,
        figure_title=figure_title,
        training_charts=training_charts,
        ranked=ranked,
        searched_params=searched_params,
        candidate_lines=candidate_lines,
        importance_bars=importance_bars,
        seconds=partial(seconds_text, none=_NONE),
        minute=partial(time_element, to="minutes"),
        time_text=partial(_time_text, to="seconds"),
        tree_lines=tree_lines,
        environments=environments,
        by_task=by_task,
        written=written,
        plural=plural,
        signed=lambda value: _number(value) if value is None or not value > 0 else f"+{_number(value)}",
        count=lambda value: f"{value:,}" if isinstance(value, int) else _number(value),
        segment=lambda text: quote(str(text), safe=""),
        json=lambda value, indent=None: json.dumps(value, indent=indent, ensure_ascii=False, default=str),
        metric_names=metric_names,
        metric_by_version=metric_by_version,
        weights_over_time=weights_over_time,
        requests_over_time=requests_over_time,
        errors_over_time=errors_over_time,
        rows_over_time=rows_over_time,
        overlaid=lambda several, name: overlaid_curves(name, several),
        parallel=parallel_coordinates,
        plain=plain,
        commit_page=commit_page,
    )
    environment.globals.update(orders=ORDERS, good_words=GOOD, static=static_path, run_place=run_place)
    return environment


_environment = _make_environment()
