"""Prepare to run a version again: its code, its model spec, its data and its base, all as they were recorded."""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli.reproduction.recorded_data import check_data, declared_data
from modelway.cli.reproduction.this_machine import here
from modelway.errors import DigestMismatch, ModelwayError

if TYPE_CHECKING:
    from modelway.hooks.settings import Settings
    from modelway.lineage.records.version import CandidateRecord, RunRecord, VersionDetail, VersionRecord

_DO_NOTHING = "A version can be run again only from a whole record"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A home of its own, ready for ``modelway run``."""

    model: str
    environment: Mapping[str, str]
    """The environment of the command's process."""
    arguments: tuple[str, ...]
    """The arguments of ``modelway run``."""
    lineage_url: str
    unchecked: tuple[str, ...]
    """A line for each data set that cannot be checked for changes."""
    lacking: tuple[str, ...]
    """A line for each thing that the run had and will not have."""


def prepare(detail: "VersionDetail", base: "VersionDetail | None", *, settings: "Settings", home: Path) -> Reproduction:
    """Lay out a home in which a version can be run again; everything is checked before anything runs.

    :param base: the version that training began from
    :raises ModelwayError: the record is incomplete, or the run cannot be repeated here
    :raises DigestMismatch: code or checkpoint are gone or damaged
    :raises InvalidDataset: a data set is not there, or is something else than the run read
    :raises CapabilityMissing: the run had what this machine does not have, such as GPUs
    """
    model, run = detail.summary.model, detail.run
    spec: dict[str, Any] = json.loads(json.dumps(dict(run.spec)))
    if not {"model", "code", "train", "evaluate"} <= spec.keys() or run.code_digest is None or run.seed is None:
        where = f"{model} v{detail.summary.number}"
        raise ModelwayError("the record has no model spec, code or seed", where=where, do=_DO_NOTHING)
    skipped = {stage.name for stage in run.stages if stage.skipped}
    lacking = here(spec, skipped=skipped)
    declared = spec.get("datasets") or {}
    unchecked = check_data(run, declared=declared, jobs=settings.home / "jobs")
    for name, data in declared_data(run, declared=declared).items():
        # The templates were filled in for the run.
        declared[name] |= {"uri": data.uri, "version": data.version}
    if run.candidates:
        spec["search"] = search_of_selected(spec, run.candidates)
        # Skipping them would not do: after a training that ended early no candidate is left for the next stage.
        spec["train"]["stages"] = [each for each in spec["train"]["stages"] if each["name"] not in skipped]
    _fetch_code(detail, settings=settings, to=home / "models" / model)
    (home / "models" / model / "model.yaml").write_text(json.dumps(spec, indent=1, ensure_ascii=False))
    url = f"sqlite:///{home / 'lineage.db'}"
    values = {"rollout": "no", "base": "none", **_form_values(detail, spec, skipped=skipped)}
    if base is not None:
        values["base"] = _take_base(base, settings=settings, url=url)
    arguments = [model, "--seed", str(run.seed)]
    arguments += [each for name, value in values.items() for each in ("--set", f"{name}={json.dumps(value)}")]
    arguments += _data_of(run)
    environment = {
        **_own_environment(),
        "MODELWAY_HOME": str(home),
        "MODELWAY_MODELS": str(home / "models"),
        "MODELWAY_LINEAGE_URL": url,
        "MODELWAY_ARTIFACT_ROOT": (home / "artifacts").as_uri(),
        # The recorded spec includes the values of its environment.
        "MODELWAY_ENV": "",
    }
    return Reproduction(
        model=model,
        environment=environment,
        arguments=tuple(arguments),
        lineage_url=url,
        unchecked=unchecked,
        lacking=lacking,
    )


def search_of_selected(spec: Mapping[str, Any], candidates: "Sequence[CandidateRecord]") -> dict[str, Any]:
    """Return a search whose only candidate is the one that was selected; its training may end early as it did.

    :raises ModelwayError: the record names none
    """
    selected = next((each for each in candidates if each.state == "selected"), None)
    if selected is None:
        raise ModelwayError("the record names no selected candidate", do=_DO_NOTHING)
    values = {name: {"values": [value]} for name, value in selected.params.items()}
    return {"method": "grid", "params": values, "stop": (spec.get("search") or {}).get("stop")}


def _fetch_code(detail: "VersionDetail", *, settings: "Settings", to: Path) -> None:
    from modelway.artifacts.code_package import unpack_code_package
    from modelway.artifacts.store import ArtifactStore
    from modelway.lineage.store import open_lineage

    model, digest = detail.summary.model, str(detail.run.code_digest)
    store = ArtifactStore(settings.artifact_root)
    lineage = open_lineage(settings.lineage_url, read_only=True)
    # The package is a file of the model's code asset, which records where it was.
    places = lineage.assets.places([digest]).get(digest, ()) if lineage else ()
    found = next(filter(None, (store.find(digest, model=model, uri=uri) for uri in (*places, None))), None)
    if found is None:
        raise DigestMismatch("the code package is gone", where=digest, do="Restore the artifact store")
    if model in (".", "..") or "/" in model:
        raise ModelwayError(f"'{model}' is not the name of a folder", do="Only models with a model spec are run again")
    to.mkdir(parents=True)
    package = to.parent / "code.zip"
    store.fetch(found, to=package)
    unpack_code_package(package=package, to=to)
    package.unlink()
    shutil.rmtree(to / "__pycache__", ignore_errors=True)


def _form_values(detail: "VersionDetail", spec: Mapping[str, Any], *, skipped: Collection[str]) -> dict[str, Any]:
    """Return the fields of the run's form: the values of declared parameters, and the stages that were left out."""
    declared = {
        name: values[name] for name in spec.get("params") or {} for values in detail.params.values() if name in values
    }
    left_out = [stage["name"] for stage in spec["train"]["stages"] if stage["name"] in skipped]
    return declared | ({"skip": left_out} if left_out else {})


def _data_of(run: "RunRecord") -> list[str]:
    """Return the arguments that set the data interval that the run had, in place of its schedule."""
    arguments = []
    if run.interval_end is not None:
        start, end = run.interval_start, run.interval_end.isoformat()
        arguments = ["--run-after", end] if start is None else ["--interval", start.isoformat(), end]
    return arguments + ([f"--partition={run.partition}"] if run.partition else [])


def _own_environment() -> dict[str, str]:
    """Return this process's environment without the exporters: this is no new version to export."""
    from modelway.ports import known

    names = [name.upper() for name in known("exporters")]
    hidden = {form.format(name) for name in names for form in ("MODELWAY_{}_URL", "AIRFLOW_CONN_MODELWAY_{}")}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _take_base(base: "VersionDetail", *, settings: "Settings", url: str) -> str:
    """Write the version that training began from into the new lineage, and return its number there."""
    from modelway.artifacts.store import ArtifactStore
    from modelway.lineage.store import open_lineage

    version = base.summary
    store = ArtifactStore(settings.artifact_root)
    found = store.find(version.checkpoint_digest, model=version.model, uri=version.checkpoint_uri)
    if found is None:
        raise DigestMismatch(
            f"the checkpoint of version {version.number}, which training began from, is gone",
            where=version.checkpoint_uri or version.checkpoint_digest,
            do="Restore the artifact store",
        )
    return str(open_lineage(url).register(_record_of(base, checkpoint_uri=found.uri)))


def _record_of(detail: "VersionDetail", *, checkpoint_uri: str) -> "VersionRecord":
    from modelway.lineage.records.version import RunRecord, VersionRecord

    version, run = detail.summary, detail.run
    return VersionRecord(
        model=version.model,
        run=RunRecord(dag_id=run.dag_id, run_id=run.run_id, actor=run.actor, spec=run.spec, seed=run.seed),
        archive_uri=version.archive_uri,
        archive_digest=version.archive_digest,
        archive_size=version.archive_size,
        model_digest=version.model_digest,
        checkpoint=version.checkpoint,
        checkpoint_digest=version.checkpoint_digest,
        checkpoint_uri=checkpoint_uri,
    )
