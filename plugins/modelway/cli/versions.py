"""``modelway versions MODEL`` and ``modelway show MODEL VERSION``: what the lineage knows, as text or JSON."""

import argparse
import json
import math
from typing import TYPE_CHECKING

from modelway.cli._lineage import add_time, add_version, read_records, read_version, time_of
from modelway.cli._remote import RemoteLineage
from modelway.cli.output.tables import print_json, print_table, table
from modelway.cli.sweep import candidates_table
from modelway.errors import ModelwayError
from modelway.lineage.records.readable import digest_text, number_text, time_text
from modelway.lineage.records.rollout import step_texts
from modelway.lineage.records.verification import is_on_examples_alone, verified_text

if TYPE_CHECKING:
    from rich.table import Table

    from modelway.lineage.records.version import RunRecord, VersionDetail, VersionSummary
    from modelway.lineage.store import Lineage


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the two commands."""
    versions = subparsers.add_parser("versions", help="list the versions of a model, newest first")
    versions.add_argument("model", metavar="MODEL", nargs="?", help="default: every model")
    order = versions.add_mutually_exclusive_group()
    order.add_argument("--lowest", metavar="METRIC", help="sort by a metric, the lowest first")
    order.add_argument("--highest", metavar="METRIC", help="sort by a metric, the highest first")
    versions.add_argument("--json", action="store_true", help="print JSON")
    versions.set_defaults(run=list_versions)
    show = subparsers.add_parser("show", help="show the whole record of a version")
    add_version(show)
    add_time(show)
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=show_version)


def list_versions(args: argparse.Namespace) -> int:
    """Print the versions of a model, or of every model.

    :raises UnknownModel: nothing was ever registered for it
    :raises ModelwayError: no version has the metric to sort by
    """
    lineage = read_records()
    models = [args.model] if args.model else [model.name for model in lineage.models()]
    found = [version for model in models for version in lineage.versions(model)]
    if metric := args.lowest or args.highest:
        found = _by_metric(found, metric, highest=bool(args.highest))
    if args.json:
        print_json(found)
        return 0
    first = [] if args.model else ["MODEL"]
    listed = table(
        *first, "VERSION", "ALIASES", "WEIGHT", "METRICS", "VERIFIED", "CHECKPOINT", "IMAGE", "CREATED", "BY", "RUN"
    )
    for version in found:
        listed.add_row(*([version.model] if first else []), *_row(version))
    print_table(listed)
    return 0


def _by_metric(found: "list[VersionSummary]", metric: str, *, highest: bool) -> "list[VersionSummary]":
    """Sort versions by a metric; those that have no finite value of it come last, newest first."""
    if not any(metric in version.metrics for version in found):
        known = sorted({name for version in found for name in version.metrics})
        raise ModelwayError(f"no version has the metric '{metric}'", known=known, given=metric)

    def place(version: "VersionSummary") -> tuple[bool, float]:
        value = version.metrics.get(metric)
        if value is None or not math.isfinite(value):
            return True, 0.0
        return False, -value if highest else value

    return sorted(found, key=place)


def show_version(args: argparse.Namespace) -> int:
    """Print the record of a version.

    :raises UnknownModel: nothing was ever registered for it
    :raises UnknownVersion: the model has no such version or alias
    """
    model, wanted = read_version(args.version)
    lineage, at = read_records(), time_of(args.at)
    number = lineage.find(model, wanted) if at is None else lineage.find_at(model, wanted, at)
    found = lineage.version(model, number)
    if args.json:
        print_json(found)
        return 0
    _print_facts(found)
    _print_removed(lineage, found)
    _print_tables(found)
    return 0


def _row(version: "VersionSummary") -> list[str]:
    weights = [f"{weight} % {endpoint}" for endpoint, weight in version.weights.items() if weight]
    return [
        f"v{version.number}",
        " ".join(version.aliases) or "-",
        ", ".join(weights) or "-",
        "  ".join(f"{name} {number_text(value)}" for name, value in sorted(version.metrics.items())) or "-",
        _verified(version),
        version.checkpoint,
        digest_text(version.image.digest if version.image else None),
        time_text(version.created_at),
        version.created_by,
        version.run_id,
    ]


def _verified(version: "VersionSummary") -> str:
    if version.verification is None:
        return "-"
    return "examples only" if is_on_examples_alone(version.verification) else f"{version.verification['rows']:,} rows"


def _print_facts(detail: "VersionDetail") -> None:
    version, run = detail.summary, detail.run
    commit = f"{run.commit or '-'}{f' ({run.branch})' if run.branch else ''}{' with changes' if run.dirty else ''}"
    facts = {
        "Model": f"{version.model} v{version.number}",
        "Description": detail.description or "-",
        **({"Tags": ", ".join(detail.note.tags)} if detail.note and detail.note.tags else {}),
        "Aliases": " ".join(version.aliases) or "-",
        "Weights": ", ".join(f"{weight} % of {endpoint}" for endpoint, weight in version.weights.items()) or "-",
        "Created": f"{time_text(version.created_at, to='seconds')} by {version.created_by}",
        "Run": f"{run.dag_id} {run.run_id} ({run.run_type})",
        "Checkpoint": f"{version.checkpoint} {version.checkpoint_digest}",
        "Model digest": version.model_digest,
        "Archive": f"{version.archive_digest} {version.archive_size} bytes",
        "": version.archive_uri,
        "Verified": verified_text(version.verification),
        "Image": version.image.reference if version.image else "-",
        "Code": run.code_digest or "-",
        "Commit": commit,
        "Seed": "-" if run.seed is None else str(run.seed),
        "Reason": run.reason or "-",
        "Data": _interval(run),
        "Inputs": run.inputs_digest or "-",
        "Training": _cost(run),
        "Parameters": f"{detail.architecture.parameters:,}" if detail.architecture else "-",
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def _print_removed(lineage: "Lineage | RemoteLineage", detail: "VersionDetail") -> None:
    """Print which of the version's files garbage collection removed; a server does not say so."""
    if isinstance(lineage, RemoteLineage):
        return
    version = detail.summary
    places = {version.archive_uri: "archive", version.checkpoint_uri or "": "checkpoint"}
    for uri, gone in lineage.assets.removed(list(places)).items():
        when = time_text(gone.at)
        print(f"The {places[uri]} was removed from the artifact store by {gone.actor} at {when} (modelway gc)")


def _stages(run: "RunRecord") -> "Table":
    found = table("STAGE", "BACKEND", "SECONDS", "CPU SECONDS", "GPU SECONDS", "PEAK MIB", "")
    for stage in run.stages:
        peak = None if stage.peak_memory_bytes is None else stage.peak_memory_bytes / 2**20
        spent = [number_text(value) for value in (stage.seconds, stage.cpu_seconds, stage.gpu_seconds, peak)]
        found.add_row(stage.name, stage.backend or "-", *spent, "skipped" if stage.skipped else "")
    return found


def _environments(run: "RunRecord") -> "Table":
    found = table("ENVIRONMENT", "PYTHON", "PACKAGES", "IMAGE")
    for stage in run.stages:
        if ran_in := stage.environment:
            found.add_row(stage.name, ran_in.python, str(len(ran_in.packages)), ran_in.image or "-")
    return found


def _importances(run: "RunRecord") -> "Table":
    found = table("FEATURE", "IMPORTANCE", "DEVIATION", "METRIC")
    for each in run.importances:
        found.add_row(each.feature, number_text(each.importance), number_text(each.deviation), each.metric)
    return found


def _rollouts(detail: "VersionDetail") -> "Table":
    found = table("ROLLOUT", "ENDPOINT", "STEP", "NEW VERSION", "STABLE VERSION", "EVIDENCE AGAINST IT", "RESULT")
    for rollout in detail.rollouts:
        for step in step_texts(rollout):
            row = (step.weight, step.new, step.stable, step.evidence, step.result)
            found.add_row(rollout.state, rollout.endpoint, *row)
    return found


def _cost(run: "RunRecord") -> str:
    if run.seconds is None:
        return "-"
    return f"{run.seconds:.1f} s, {(run.gpu_seconds or 0) / 3600:.3g} GPU-hours"


def _interval(run: "RunRecord") -> str:
    """Write the data interval of a run and, where it has another name, its partition."""
    if run.interval_end is None:
        return "-"
    end = time_text(run.interval_end)
    if run.interval_start is None:
        return f"up to {end}" + (f" ({run.partition})" if run.partition else "")
    named = run.partition and run.partition != f"{run.interval_start:%Y-%m-%dT%H:%M:%S}"
    return f"{time_text(run.interval_start)} to {end}" + (f" ({run.partition})" if named else "")


def _print_tables(detail: "VersionDetail") -> None:
    chosen = detail.summary.checkpoint
    evaluations = table("EVALUATION", "METRICS", "")
    for each in detail.evaluations:
        numbers = "  ".join(f"{name} {number_text(value)}" for name, value in sorted(each.metrics.items()))
        evaluations.add_row(each.checkpoint, numbers, "chosen" if each.checkpoint == chosen else each.note)
    params = table("STAGE", "PARAMETER", "VALUE")
    for stage, values in detail.params.items():
        for name, value in values.items():
            params.add_row(stage, name, json.dumps(value, ensure_ascii=False))
    datasets = table("DATA SET", "STAGE", "VERSION", "DIGEST", "URI")
    for data in detail.run.datasets:
        datasets.add_row(data.name, data.stage, data.version or "-", data.digest or "-", data.uri)
    files = table("FILE", "BYTES", "SHA256")
    for file in detail.files:
        files.add_row(file.path, str(file.size), file.digest.removeprefix("sha256:"))
    events = table("EVENT", "AT", "BY", "RUN", "")
    for event in detail.events:
        why = str(event.detail.get("reason") or "")
        events.add_row(event.kind, time_text(event.at, to="seconds"), event.actor, event.run_id or "-", why)
    candidates = candidates_table(detail.run.candidates)
    importances, stages, ran_in = _importances(detail.run), _stages(detail.run), _environments(detail.run)
    rollouts = _rollouts(detail)
    for each_table in (candidates, evaluations, importances, stages, ran_in, params, datasets, files, rollouts, events):
        if each_table.row_count:
            print()
            print_table(each_table)
