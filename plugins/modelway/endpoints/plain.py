"""A spec of an endpoint as plain data, for targets that record it on their platform."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from modelway.endpoints.base import Autoscaling, EndpointSpec, Mirror, Predictor, Sticky


def plain_predictor(predictor: Predictor) -> dict[str, Any]:
    """Return a predictor without its weight, which changes while all else of it stays; defaults are left out."""
    defaults = asdict(Predictor(name=predictor.name, version=predictor.version, image=predictor.image, weight=0))
    needed = ("name", "version", "image")
    found = {key: value for key, value in asdict(predictor).items() if key in needed or value != defaults[key]}
    found.pop("weight", None)
    return found


def read_predictor(plain: Mapping[str, Any], *, weight: int | None = None) -> Predictor:
    """Return the predictor of plain data.

    :param weight: in place of the one in the data
    :raises TypeError: it is no predictor, as is a KeyError
    """
    scaling = plain.get("autoscaling")
    values = {**plain, "autoscaling": Autoscaling(**scaling) if scaling else None}
    return Predictor(**(values if weight is None else {**values, "weight": weight}))


def read_spec(plain: Mapping[str, Any]) -> EndpointSpec:
    """Return the spec of plain data, as ``asdict`` makes it.

    :raises TypeError: it is no spec, as is a KeyError
    """
    predictors = tuple(read_predictor(each) for each in plain["predictors"])
    mirror = Mirror(**plain["mirror"]) if plain.get("mirror") else None
    return EndpointSpec(**{**plain, "predictors": predictors, "sticky": Sticky(**plain["sticky"]), "mirror": mirror})
