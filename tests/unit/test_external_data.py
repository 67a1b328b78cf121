"""An ONNX program whose weights are elsewhere: found and changed in its bytes, and run from there."""

import numpy as np
import onnx
import pytest
from modelway.endpoints.local.weights import WeightsInPlace
from modelway.job.freezing.external_data import external_files, relocated
from modelway.job.freezing.session import ProgramModel
from modelway.oci.images import unpack_image
from modelway.oci.layout import OciLayout
from onnx import TensorProto, helper

from tests.image_samples import entry, make_image, tar
from tests.tiny_model import write_model

ROWS = {"x": np.ones((2, 4), dtype=np.float32)}


def test_a_program_without_its_own_files_names_none():
    graph = helper.make_graph([], "empty", [], [])
    program = helper.make_model(graph).SerializeToString()
    assert external_files(program) == set()
    assert relocated(program, {"weights": ("other", 1)}) == program


@pytest.mark.parametrize("begin", [0, 1, 1536, 4096])
def test_a_program_runs_with_its_weights_inside_another_file(tmp_path, begin):
    folder = write_model(tmp_path / "model", scale=3) / "model"
    program = (folder / "model.onnx").read_bytes()
    assert external_files(program) == {"model.safetensors"}
    (tmp_path / "archive").write_bytes(b"x" * begin + (folder / "model.safetensors").read_bytes() + b"behind")
    moved = relocated(program, {"model.safetensors": ("archive", begin)})
    assert external_files(moved) == {"archive"}
    before, after = ProgramModel(folder / "model.onnx"), ProgramModel(moved, weights=tmp_path)
    assert np.array_equal(before(ROWS)["y"], after(ROWS)["y"])
    assert np.array_equal(after(ROWS)["y"], np.full((2, 4), 3, dtype=np.float32))
    # Nothing else has changed.
    back = relocated(moved, {"archive": ("model.safetensors", -begin)})
    one, other = (onnx.load_from_string(each) for each in (program, back))
    for each in (one, other):
        for tensor in each.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            entries.setdefault("offset", "0")
            del tensor.external_data[:]
            for key, value in sorted(entries.items()):
                tensor.external_data.add(key=key, value=value)
    assert one == other


def test_weights_of_a_branch_are_found():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="branch.bin")
    value = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])
    inner = helper.make_graph([], "then", [], [value], [tensor])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    program = helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString()
    assert external_files(program) == {"branch.bin"}
    assert external_files(relocated(program, {"branch.bin": ("other", 5)})) == {"other"}


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x3a\x7f", b"\x3f", b"not a program"])
def test_what_is_no_program_is_refused(data):
    with pytest.raises(ValueError, match="no (whole )?ONNX program"):
        external_files(data)


@pytest.mark.parametrize("shared", [True, False])
def test_weights_that_a_later_layer_replaces_are_those_of_that_layer(tmp_path, monkeypatch, shared):
    monkeypatch.setattr("modelway.endpoints.local.weights.LEAST_BYTES", 1)
    if not shared:
        monkeypatch.setattr("modelway.endpoints.local.weights.share", lambda *_, **__: False)
    models = [write_model(tmp_path / str(scale), scale=scale) / "model" for scale in (3, 5)]
    layers = [tar(*(entry(f"m/{path.name}", path.read_bytes()) for path in sorted(each.iterdir()))) for each in models]
    image = make_image(OciLayout(tmp_path / "images"), *layers)
    root = unpack_image(reference=image, into=tmp_path / "unpacked", in_place=WeightsInPlace())
    answer = ProgramModel(root / "m" / "model.onnx")(ROWS)["y"]
    assert np.array_equal(answer, np.full((2, 4), 5, dtype=np.float32))
