"""What a run is given: its parameters, its data sets, and one digest of all that a version can depend on.

Without Airflow: ``modelway backfill plan`` asks the same questions as a run's plan.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelway.artifacts.dataset import Dataset, read_dataset
from modelway.errors import ModelwayError
from modelway.spec.template import render_template

#: the run's parameters that are the same for every model
OWN_PARAMS = ("base", "reason", "rollout", "seed", "skip", "version")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The data that a run is about: no ``start`` where the run has no interval of its own."""

    start: datetime | None
    end: datetime
    partition: str | None = None

    @classmethod
    def of(cls, start: datetime | None, end: datetime, *, partition: str | None = None) -> "Interval":
        """Return an interval, called by its start unless the run has a partition key."""
        return cls(start=start, end=end, partition=partition or (f"{start:%Y-%m-%dT%H:%M:%S}" if start else None))

    def to_dict(self) -> dict[str, str | None]:
        """Return the interval as a plan has it."""
        return {"start": self.start.isoformat() if self.start else None, "end": self.end.isoformat()}

    @classmethod
    def from_dict(cls, data: Mapping[str, str | None]) -> "Interval":
        """Read an interval from a plan."""
        start, end = data["start"], data["end"]
        assert end is not None  # every plan has one
        return cls.of(datetime.fromisoformat(start) if start else None, datetime.fromisoformat(end))


def declared_params(spec: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's value of each parameter that the spec declares."""
    declared = spec.get("params") or {}
    return {name: given[name] if given.get(name) is not None else about["default"] for name, about in declared.items()}


def refuse_unknown_fields(spec: Mapping[str, Any], conf: Mapping[str, Any], *, others: Iterable[str]) -> None:
    """Refuse a run that was started with values that nothing of it takes, such as a misspelt parameter.

    :param conf: what the run was started with by a person, the API or another DAG
    :param others: parameters that the DAG itself declares
    :raises ModelwayError: one is no field of the run's form
    """
    known = {*OWN_PARAMS, *(spec.get("params") or {}), *others}
    if unknown := [name for name in conf if name not in known]:
        raise ModelwayError(
            f"the run has no field {', '.join(map(repr, unknown))}", known=sorted(known), given=str(unknown[0])
        )


def rendered_datasets(
    spec: Mapping[str, Any], *, interval: Interval, params: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the spec's data sets by name with their templates filled in.

    :raises InvalidSpec: a template cannot be filled in for this run
    """
    values: dict[str, Any] = {
        "interval_start": interval.start,
        "interval_end": interval.end,
        "partition": interval.partition,
        "params": params,
    }

    def filled(text: str | None) -> str | None:
        return None if text is None else render_template(text, **values)

    return {
        name: {"uri": filled(about["uri"]), "digest": about.get("digest"), "version": filled(about.get("version"))}
        for name, about in (spec.get("datasets") or {}).items()
    }


def read_datasets(rendered: Mapping[str, Mapping[str, Any]]) -> list[Dataset]:
    """Return what the data sets hold now; see ``read_dataset`` for what is refused."""
    return [read_dataset(name=name, **about) for name, about in rendered.items()]


def run_stages(spec: Mapping[str, Any], skip: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the stages that run.

    :raises ModelwayError: there is no stage of a name in ``skip``, or none is left
    """
    stages = spec["train"]["stages"]
    names = [stage["name"] for stage in stages]
    for name in skip:
        if name not in names:
            raise ModelwayError(f"there is no stage '{name}' to skip", known=names, given=name)
    left = [stage for stage in stages if stage["name"] not in skip]
    if not left:
        raise ModelwayError(
            "every stage is to be skipped, so nothing would be trained",
            do="Leave a stage to run, or set the run's parameter version to take a version that is there already",
        )
    return left


def inputs_digest(
    *,
    spec: Mapping[str, Any],
    code: Mapping[str, Any],
    datasets: Sequence[Dataset],
    interval: Interval,
    params: Mapping[str, Any],
    seed: int,
    skip: Sequence[str] = (),
    base: str | None = None,
) -> str | None:
    """Return ``sha256:<hex>`` of all that a version depends on; None when it cannot be told.

    Without data sets, the run's own data interval and partition stand for them: they are all that the code knows of its
    data. A data set of which neither content nor version is known may be any, so nothing can be said.

    :param base: digest of the checkpoint that the first stage starts from
    """
    if any(dataset.digest is None and dataset.version is None for dataset in datasets):
        return None
    train, evaluate = spec["train"], spec["evaluate"]
    given = {
        "code": code["digest"],
        "module": code["module"],
        "datasets": [
            [dataset.name, dataset.digest or [dataset.uri, dataset.version]]
            for dataset in sorted(datasets, key=lambda dataset: dataset.name)
        ],
        "interval": None if datasets or interval.start is None else interval.to_dict(),
        "partition": None if datasets else interval.partition,
        "params": dict(params),
        "stages": [
            {"name": stage["name"], "params": {**train["params"], **stage["params"]}, "command": stage["command"]}
            for stage in run_stages(spec, skip)
        ],
        "seed": seed,
        "base": base,
        "evaluate": {"params": {**train["params"], **evaluate["params"]}, "command": evaluate["command"]},
        **{section: spec[section] for section in ("select", "freeze", "verify")},
    }
    text = json.dumps(given, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
