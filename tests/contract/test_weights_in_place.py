"""Large weights of an image of this machine: one file with the layer that they came in, or a copy."""

from pathlib import Path

import pytest
from modelway.endpoints.base import EndpointSpec, Predictor, load_endpoint
from modelway.endpoints.local.weights import WeightsInPlace
from modelway.oci.images import unpack_image

from tests.endpoint_clients import ask
from tests.tiny_endpoint import build_image
from tests.tiny_model import write_model


def test_large_weights_stay_in_the_layer_of_their_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelway.endpoints.local.weights.LEAST_BYTES", 1)
    endpoint = load_endpoint("local", root=tmp_path / "home folder" / "endpoints")
    image = build_image(write_model(tmp_path / "model", scale=7), tmp_path / "layout")
    predictor = Predictor(name="v1", version=1, image=image, weight=100)
    status = endpoint.apply(EndpointSpec(name="tiny", model="tiny", predictors=(predictor,), stable="v1"))
    assert [answer for *_, answer in ask(status.url, times=1)] == [7]
    (weights,) = (tmp_path / "home folder").rglob("model.safetensors*")
    blobs = {path.stat().st_ino: path for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir()}
    if weights.stat().st_nlink > 1:
        assert weights.name == "model.safetensors.layer"
        assert weights.stat().st_ino in blobs
    # Started again, it finds the unpacked image as it was.
    endpoint.stop("tiny")
    assert [answer for *_, answer in ask(endpoint.start("tiny").url, times=1)] == [7]
    endpoint.delete("tiny")


def test_weights_are_copied_where_the_layer_cannot_have_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelway.endpoints.local.weights.LEAST_BYTES", 1)
    monkeypatch.setattr("modelway.endpoints.local.weights.share", lambda *_, **__: False)
    image = build_image(write_model(tmp_path / "model", scale=7), tmp_path / "layout")
    root = unpack_image(reference=image, into=tmp_path / "images", in_place=WeightsInPlace())
    for name in ("model.onnx", "model.safetensors"):
        assert (root / "models" / "model" / name).read_bytes() == (tmp_path / "model" / "model" / name).read_bytes()
