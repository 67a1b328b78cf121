"""Which models the monitor watches, and where: those whose spec has rules, at the endpoints that serve for good."""

from pathlib import Path

from modelway.endpoints.base import endpoint_member
from modelway.monitor.rules import DriftRule, QualityRule, Rules
from modelway.runs.monitor_labels import LabelSource
from modelway.runs.monitoring import Watched
from modelway.spec.environments import environments_of
from modelway.spec.load import find_specs, load_files
from modelway.spec.model import ModelSpec
from modelway.spec.monitoring import MonitorSection


def specs_with_rules(folder: Path) -> list[ModelSpec]:
    """Return the valid specs of a folder that have rules; only files that may have them are read as specs."""
    files = [file for file in find_specs(folder)[0] if _may_have_rules(file)]
    return [spec for spec in load_files(files).specs.values() if spec.monitor.has_rules]


def _may_have_rules(file: Path) -> bool:
    try:
        text = file.read_bytes()
    except OSError:
        return False
    return b"monitor" in text or b"extends" in text


def watched_models(folder: Path) -> list[Watched]:
    """Return the models of a folder that have rules; an invalid spec has none, ``dags/model_specs.py`` reports it."""
    return [watched for spec in specs_with_rules(folder) for watched in _watched(spec)]


def _watched(spec: ModelSpec) -> list[Watched]:
    rules = rules_of(spec.monitor)
    return [
        Watched(
            model=spec.model,
            endpoint=serving.endpoint,
            target=serving.section.target,
            rules=rules,
            labels=_labels(spec),
            platform=serving.section.platform() if endpoint_member(serving.section.target).placed else {},
        )
        for serving in environments_of(spec.model, spec.endpoint).values()
        if not serving.is_development
    ]


def _labels(spec: ModelSpec) -> LabelSource | None:
    section = spec.monitor.labels
    if section is None:
        return None
    uri = spec.datasets[section.dataset].uri
    return LabelSource(dataset=section.dataset, uri=uri, key=section.key, column=section.column)


def rules_of(section: MonitorSection) -> Rules:
    """Return the rules of a spec."""
    drift, quality = section.drift, section.quality
    return Rules(
        drift=None
        if drift is None
        else DriftRule(
            window_seconds=drift.window_seconds,
            minimum_rows=drift.minimum_rows,
            psi=drift.psi,
            ks=drift.ks,
            w=drift.w,
            alpha=drift.alpha,
            schema=drift.schema_changes,
        ),
        quality=None
        if quality is None
        else QualityRule(
            window_seconds=quality.window_seconds,
            minimum_labels=quality.minimum_labels,
            drop=quality.drop,
            rise=quality.rise,
            alpha=quality.alpha,
        ),
        volume=section.volume,
        staleness_seconds=section.staleness_seconds,
        cool_down_seconds=section.cool_down_seconds,
        budget_per_week=section.budget_per_week,
    )
