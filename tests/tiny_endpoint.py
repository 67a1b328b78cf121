"""Images of the tiny models of tests, and an endpoint of theirs."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.endpoints.base import EndpointSpec, Predictor, predictor_name


def tiny_spec(
    images: Mapping[int | str, str], weights: Mapping[int, int], stable: int = 1, replicas: int = 1, **platform: object
) -> EndpointSpec:
    """Return an endpoint of versions by their weights.

    :param images: by version
    """
    predictors = tuple(
        Predictor(
            name=predictor_name(version), version=version, image=images[version], weight=weight, replicas=replicas
        )
        for version, weight in weights.items()
    )
    return EndpointSpec(
        name="tiny", model="tiny", predictors=predictors, stable=predictor_name(stable), platform=platform
    )


def model_layer(model: Path, *, path: str = "/models") -> Layer:
    """Return the files of a model's folder as a layer of an image."""
    files = (
        LayerFile(
            path_in_image=f"{path}/{file.relative_to(model)}",
            source=file,
            size=file.stat().st_size,
            digest=f"sha256:{sha256(file.read_bytes()).hexdigest()}",
        )
        for file in sorted(model.glob("**/*"))
        if file.is_file()
    )
    return Layer(files=tuple(files))


def build_own_image(model: Path, layout: Path, *, path: str = "/models") -> str:
    """Return the reference of an image that no other process has: removed from an engine, it is missing to nobody."""
    (model / "outputs" / "made_in.txt").write_text(str(layout.resolve()))
    return build_image(model, layout, path=path)


def build_image(model: Path, layout: Path, *, path: str = "/models") -> str:
    """Return the reference of an image of a model's folder in a layout."""
    options = BuildOptions(name="tiny", layout=layout)
    return load_builder("oci").build(layers=(model_layer(model, path=path),), base="scratch", options=options).reference
