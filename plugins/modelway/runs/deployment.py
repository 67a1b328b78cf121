"""The endpoint that a deployment makes: a version beside the stable one, and the predictors that were added by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import (
    Autoscaling,
    EndpointSpec,
    EndpointStatus,
    Mirror,
    Predictor,
    Sticky,
    predictor_name,
)
from modelway.errors import UnknownVersion
from modelway.runs.traffic import weigh

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage
    from modelway.spec.serving import PredictorSection, ServingSection


def make_predictor(*, version: int, image: str, path: str, serving: "ServingSection") -> Predictor:
    """Return the predictor that the pipeline deploys for a version of the endpoint's model, without a weight."""
    return _scaled(
        Predictor(name=predictor_name(version), version=version, image=image, weight=0, model_path=path), serving
    )


def desired_endpoint(
    mine: Predictor,
    *,
    name: str,
    model: str,
    current: EndpointStatus | None,
    stable: int | None,
    by_hand: Sequence[Predictor],
    serving: "ServingSection",
    platform: Mapping[str, Any],
) -> EndpointSpec:
    """Return the endpoint with a version beside the stable one; a canary left by another run is stopped.

    The version retains the share that it has, and gets all of the pipeline's where no stable one serves.

    :param mine: the version's predictor
    :param by_hand: the predictors added by hand, with their weights
    """
    before = {predictor.name: predictor for predictor in current.spec().predictors} if current else {}
    old = before.get(predictor_name(stable)) if stable is not None else None
    if old is None:
        percents, pair = {mine.name: 100}, [mine]
    else:
        weight = _percent(before.get(mine.name), old)
        # the stable one first, then the one that grows: users of others stay where they are
        percents, pair = {old.name: 100 - weight, mine.name: weight}, [old, mine]
    weights = weigh(percents, together=serving.weight, by_hand={each.name: each.weight for each in by_hand})
    sticky, mirror = serving.sticky, serving.mirror
    return EndpointSpec(
        name=name,
        model=model,
        predictors=tuple(replace(each, weight=weights[each.name]) for each in (*pair, *by_hand)),
        stable=pair[0].name,
        sticky=Sticky(header=sticky.header, cookie=sticky.cookie) if sticky else Sticky(),
        mirror=Mirror(predictor=mine.name, percent=mirror.percent) if mirror and old is not None else None,
        platform=platform,
    )


def predictors_by_hand(store: "Lineage", serving: "ServingSection", *, model: str, path: str) -> tuple[Predictor, ...]:
    """Return the predictors of ``endpoint.predictors``; aliases are those of now.

    :param path: the model's folder in images whose predictor names none
    :raises UnknownModel: a predictor's model has no versions
    :raises UnknownVersion: there is no such version, or it has no image
    """
    return tuple(_by_hand(store, section, serving, model=model, path=path) for section in serving.predictors)


def _by_hand(
    store: "Lineage", section: "PredictorSection", serving: "ServingSection", *, model: str, path: str
) -> Predictor:
    other = section.model if section.model != model else None
    number = store.find(other or model, str(section.version))
    image = store.version(other or model, number).summary.image
    if image is None:
        raise UnknownVersion(
            f"version {number} of {other or model}, which predictor {section.name} is to serve, has no image",
            where=f"endpoint {model}",
            do=f"Build one: modelway image build {other or model} {number}",
        )
    predictor = Predictor(
        name=section.name,
        version=number,
        image=image.reference,
        weight=section.weight,
        model=other,
        model_path=section.path or path,
    )
    keys = ("replicas", "resources", "batching", "autoscaling")
    own = {key: value for key in keys if (value := getattr(section, key)) is not None}
    return _scaled(predictor, serving.model_copy(update=own))


def _scaled(predictor: Predictor, serving: "ServingSection") -> Predictor:
    scaling = serving.autoscaling
    resources = serving.resources.model_dump(exclude_defaults=True)
    return replace(
        predictor,
        replicas=serving.replicas if scaling is None else max(serving.replicas, scaling.minimum),
        resources=resources,
        batching=serving.batching.model_dump(exclude_defaults=True),
        autoscaling=None if scaling is None else Autoscaling(**scaling.model_dump()),
    )


def _percent(mine: Predictor | None, stable: Predictor) -> int:
    """Return the share that a predictor has of both, in per cent."""
    together = stable.weight + (mine.weight if mine else 0)
    return round(mine.weight * 100 / together) if mine and together else 0
