"""What running a version again takes: its code, its model spec, its data and its base, all as they were recorded."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.errors import DigestMismatch, InvalidDataset, ModelwayError

if TYPE_CHECKING:
    from modelway.hooks.settings import Settings
    from modelway.lineage.record import VersionDetail, VersionRecord

_DO_NOTHING = "A version can be run again only from a whole record"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A home of its own, ready for ``modelway run``."""

    model: str
    environment: Mapping[str, str]
    """What to set, besides what is set."""
    words: tuple[str, ...]
    """The arguments of ``modelway run``."""
    lineage_url: str


def prepare(detail: "VersionDetail", base: "VersionDetail | None", *, settings: "Settings", home: Path) -> Reproduction:
    """Lay out a home in which a version can be run again; everything is checked before anything runs.

    :param base: the version that training began from
    :raises ModelwayError: the record does not tell enough, or the run cannot be repeated here
    :raises DigestMismatch: code or checkpoint are gone or damaged
    :raises InvalidDataset: a data set is not there, or holds something else than the run read
    """
    model, run = detail.summary.model, detail.run
    spec: dict[str, Any] = json.loads(json.dumps(dict(run.spec)))
    if not {"model", "code", "train"} <= spec.keys() or run.code_digest is None or run.seed is None:
        where = f"{model} v{detail.summary.number}"
        raise ModelwayError("the record has no model spec, code or seed", where=where, do=_DO_NOTHING)
    _refuse_what_changes(detail, spec)
    _check_data(detail, spec)
    _fetch_code(detail, settings=settings, to=home / "models" / model)
    (home / "models" / model / "model.yaml").write_text(json.dumps(_here(spec), indent=1, ensure_ascii=False))
    url = f"sqlite:///{home / 'lineage.db'}"
    values = {"rollout": "no", "base": "none", **_given(detail, spec)}
    if base is not None:
        values["base"] = _take_base(base, settings=settings, url=url)
    words = [model, "--seed", str(run.seed)]
    words += [word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    if run.interval_end is not None:
        words += ["--run-after", run.interval_end.isoformat()]
    environment = {
        "MODELWAY_HOME": str(home),
        "MODELWAY_MODELS": str(home / "models"),
        "MODELWAY_LINEAGE_URL": url,
        "MODELWAY_ARTIFACT_ROOT": (home / "artifacts").as_uri(),
        # The recorded spec has the values of its environment already.
        "MODELWAY_ENV": "",
    }
    return Reproduction(model=model, environment=environment, words=tuple(words), lineage_url=url)


def _refuse_what_changes(detail: "VersionDetail", spec: Mapping[str, Any]) -> None:
    """Refuse a run whose parameters are filled in from an interval or partition that no run by hand can have."""
    cron = (spec.get("schedule") or {}).get("cron")
    told = json.dumps([spec["train"], spec["evaluate"]])
    words = [word for word in ("interval_start", "partition") if word in told and "{{" in told]
    if words and detail.run.interval_start is not None and not cron:
        raise ModelwayError(
            f"the run's parameters were made from its {' and '.join(words)}, which a run by hand does not have",
            where=f"{detail.summary.model} v{detail.summary.number}",
            do="Run it again by its DAG: clear the run, or backfill its interval",
        )


def _check_data(detail: "VersionDetail", spec: dict[str, Any]) -> None:
    """Put the places that the run read in place of the spec's templates, and see that they hold what they held."""
    from modelway.artifacts.dataset import read_dataset

    recorded = {data.name: data for data in detail.run.datasets}
    for name, about in (spec.get("datasets") or {}).items():
        if (data := recorded.get(name)) is None:
            raise InvalidDataset(f"of data set '{name}' the record does not tell what was read", do=_DO_NOTHING)
        about |= {"uri": data.uri, "version": data.version}
        found = read_dataset(name=name, uri=data.uri, version=data.version)
        if data.digest is not None and about.get("digest") is None and found.digest != data.digest:
            raise InvalidDataset(
                f"data set '{name}' has changed: it is {found.digest}, and the run read {data.digest}",
                where=data.uri,
                do="Bring the data of then back; nothing was run",
            )
        if about.get("digest"):
            read_dataset(name=name, uri=data.uri, digest=about["digest"], version=data.version)


def _fetch_code(detail: "VersionDetail", *, settings: "Settings", to: Path) -> None:
    from modelway.artifacts.code_package import unpack_code_package
    from modelway.artifacts.store import ArtifactStore
    from modelway.lineage.assets import open_assets_to_read

    model, digest = detail.summary.model, str(detail.run.code_digest)
    store, assets = ArtifactStore(settings.artifact_root), open_assets_to_read(settings.lineage_url)
    # The package is a file of the model's code asset, which tells where it lay then.
    places = assets.places([digest]).get(digest, ()) if assets else ()
    found = next(filter(None, (store.find(digest, model=model, uri=uri) for uri in (*places, None))), None)
    if found is None:
        raise DigestMismatch("the code package is gone", where=digest, do="Restore the artifact store")
    if model in (".", "..") or "/" in model:
        raise ModelwayError(f"'{model}' is no name of a folder", do="Only models with a model spec are run again")
    to.mkdir(parents=True)
    package = to.parent / "code.zip"
    store.fetch(found, to=package)
    unpack_code_package(package=package, to=to)
    package.unlink()
    shutil.rmtree(to / "__pycache__", ignore_errors=True)


def _here(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec with everything on this machine, and nobody told."""
    cron = spec.get("schedule") if (spec.get("schedule") or {}).get("cron") else None
    spec |= {"schedule": cron, "reuse": "never", "deadline": None, "pool": None}
    spec["train"] |= {"backend": "local", "image": None, "base": None}
    spec["evaluate"] |= {"backend": None, "image": None}
    for name in ("docker", "endpoint", "image", "kubernetes", "monitor", "notifications", "storage", "vertex"):
        spec.pop(name, None)
    return spec


def _given(detail: "VersionDetail", spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the run's form: the values of declared parameters, and the stages that were left out."""
    trained = list(detail.params)
    declared = {
        name: values[name] for name in spec.get("params") or {} for values in detail.params.values() if name in values
    }
    stages = [str(stage["name"]) for stage in spec["train"]["stages"]]
    left_out = [stage for stage in stages if stage not in trained] if set(trained) & set(stages) else []
    return declared | ({"skip": left_out} if left_out else {})


def _take_base(base: "VersionDetail", *, settings: "Settings", url: str) -> str:
    """Write the version that training began from into the new lineage, and return its number there."""
    from modelway.artifacts.store import ArtifactStore
    from modelway.lineage.store import open_store

    version = base.summary
    store = ArtifactStore(settings.artifact_root)
    found = store.find(version.checkpoint_digest, model=version.model, uri=version.checkpoint_uri)
    if found is None:
        raise DigestMismatch(
            f"the checkpoint of version {version.number}, which training began from, is gone",
            where=version.checkpoint_uri or version.checkpoint_digest,
            do="Restore the artifact store",
        )
    return str(open_store(url).register(_record_of(base, checkpoint_uri=found.uri)))


def _record_of(detail: "VersionDetail", *, checkpoint_uri: str) -> "VersionRecord":
    from modelway.lineage.record import RunRecord, VersionRecord

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
