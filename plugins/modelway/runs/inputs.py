"""The inputs of a run: its parameters, its data sets, and one digest of everything that a version depends on.

``modelway backfill plan`` computes the same values as a run's plan.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelway.artifacts.dataset import Dataset, read_dataset
from modelway.errors import ModelwayError
from modelway.runs.interval import Interval
from modelway.spec.run_params import RESERVED
from modelway.spec.template import render_template

if TYPE_CHECKING:
    from modelway.spec.model import ModelSpec, Stage


def declared_params(spec: "ModelSpec", values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's value of each parameter that the spec declares."""
    return {
        name: values[name] if values.get(name) is not None else param.default for name, param in spec.params.items()
    }


def refuse_unknown_fields(spec: "ModelSpec", conf: Mapping[str, Any], *, others: Iterable[str]) -> None:
    """Refuse a run that was started with unknown fields, such as a misspelt parameter.

    :param conf: the configuration with which a person, the API or another DAG started the run
    :param others: parameters that the DAG itself declares
    :raises ModelwayError: a field is not in the run's form
    """
    known = {*RESERVED, *spec.params, *others}
    if not spec.endpoint.environments:
        known.discard("environment")
    if unknown := [name for name in conf if name not in known]:
        raise ModelwayError(
            f"the run has no field {', '.join(map(repr, unknown))}", known=sorted(known), given=str(unknown[0])
        )


def rendered_datasets(spec: "ModelSpec", *, interval: Interval, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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
        name: {"uri": filled(dataset.uri), "digest": dataset.digest, "version": filled(dataset.version)}
        for name, dataset in spec.datasets.items()
    }


def read_datasets(rendered: Mapping[str, Mapping[str, Any]]) -> list[Dataset]:
    """Return the present state of the data sets; see ``read_dataset`` for what is refused."""
    return [read_dataset(name=name, **about) for name, about in rendered.items()]


def run_stages(spec: "ModelSpec", skip: Sequence[str]) -> list["Stage"]:
    """Return the stages that run.

    :raises ModelwayError: there is no stage of a name in ``skip``, or none is left
    """
    stages = spec.stages()
    names = [stage.name for stage in stages]
    for name in skip:
        if name not in names:
            raise ModelwayError(f"there is no stage '{name}' to skip", known=names, given=name)
    left = [stage for stage in stages if stage.name not in skip]
    if not left:
        raise ModelwayError(
            "every stage is to be skipped, so nothing would be trained",
            do="Leave a stage to run, or set the run's parameter version to reuse an existing version",
        )
    return left


def inputs_digest(
    *,
    spec: "ModelSpec",
    code_digest: str,
    module: str,
    datasets: Sequence[Dataset],
    interval: Interval,
    params: Mapping[str, Any],
    seed: int,
    skip: Sequence[str] = (),
    base: str | None = None,
) -> str | None:
    """Return ``sha256:<hex>`` of everything that a version depends on; None when it is not known.

    Without data sets, the run's own data interval and partition stand for them: the code knows nothing else of its
    data. With a data set of which neither content nor version is known, there is no digest.

    :param module: the model's Python file inside the code package
    :param base: digest of the checkpoint that the first stage starts from
    """
    if any(dataset.digest is None and dataset.version is None for dataset in datasets):
        return None
    data, evaluation = spec.to_dict(), spec.evaluation()
    inputs = {
        "code": code_digest,
        "module": module,
        "datasets": [
            [dataset.name, dataset.digest or [dataset.uri, dataset.version]]
            for dataset in sorted(datasets, key=lambda dataset: dataset.name)
        ],
        "interval": None if datasets or interval.start is None else interval.to_dict(),
        "partition": None if datasets else interval.partition,
        "params": dict(params),
        "stages": [
            {"name": stage.name, "params": dict(stage.params), "command": stage.command}
            for stage in run_stages(spec, skip)
        ],
        "seed": seed,
        "base": base,
        "evaluate": {"params": dict(evaluation.params), "command": evaluation.command},
        **{section: data[section] for section in ("select", "freeze", "verify")},
        # Left out where there is none: the digests of before this section stay.
        **({"search": data["search"]} if spec.search else {}),
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
