"""Templates to answers: where links lead, how values are written, what a page may load."""

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from modelway.lineage.record import EvaluationRecord, MetricSeries, VersionSummary
from modelway.lineage.values import plain
from modelway.ui.charts import chart, importance_bars

_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
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
    back = quote(request.url.path, safe="/")
    places = {"here": here, "airflow": airflow, "back": back}
    text = _environment.get_template(template).render(places, nonce=nonce, status=status, **values)
    answer = HTMLResponse(text, status_code=status, headers=dict(headers or {}))
    answer.headers["content-security-policy"] = _POLICY.format(nonce=nonce)
    answer.headers["cache-control"] = "no-store"
    return answer


def show_number(value: float | None) -> str:
    """Write a metric: four significant digits, NaN and infinity by name, a dash for none."""
    if value is None:
        return "–"
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"


def show_time(value: datetime | None) -> str:
    """Write a time to the second, in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if value else "–"


def show_digest(value: str | None) -> str:
    """Shorten a digest to its first twelve digits."""
    return value.removeprefix("sha256:")[:12] if value else "–"


def show_bytes(value: int) -> str:
    """Write a size in the largest binary unit below it."""
    size, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{value} B" if unit == "B" else f"{size:.1f} {unit}"


def show_seconds(value: float | None) -> str:
    """Write a length of time, exact below a minute."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.3g} s"
    hours, rest = divmod(round(value), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def metric_names(records: Sequence[VersionSummary | EvaluationRecord], *, most: int = 6) -> list[str]:
    """Return the metrics that have a column: those of the most records first."""
    counts = Counter(name for record in records for name in record.metrics)
    return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]


def curve(series: MetricSeries, *, width: int = 180, height: int = 36, most: int = 180) -> str:
    """Return the points of a polyline of a metric over its steps; values that are not finite are left out."""
    points = [
        (step, value) for step, value in zip(series.steps, series.values, strict=True) if abs(value) < float("inf")
    ]
    points = points[:: max(1, len(points) // most)]
    if len(points) < 2:
        return ""
    low, high = min(value for _, value in points), max(value for _, value in points)
    first, last = points[0][0], points[-1][0]
    across, down = (width - 4) / ((last - first) or 1), (height - 4) / ((high - low) or 1)
    return " ".join(f"{2 + (step - first) * across:.1f},{2 + (high - value) * down:.1f}" for step, value in points)


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=show_number,
        time=show_time,
        digest=show_digest,
        bytes=show_bytes,
        curve=curve,
        chart=chart,
        importance_bars=importance_bars,
        seconds=show_seconds,
        count=lambda value: f"{value:,}" if isinstance(value, int) else show_number(value),
        segment=lambda text: quote(str(text), safe=""),
        json=lambda value, indent=None: json.dumps(value, indent=indent, ensure_ascii=False, default=str),
        metric_names=metric_names,
        plain=plain,
    )
    return environment


_environment = _make_environment()
