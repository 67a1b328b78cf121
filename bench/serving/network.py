"""Frozen models for measurements, of random weights: a small network over 8 x 8 digits, and a transformer's encoder."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def write_network(folder: Path) -> Path:
    """Write a model folder (model/, outputs/) of the small network, about 0.1 ms a row, and return it."""
    random = np.random.default_rng(0)
    shapes = {"w1": (16, 1, 3, 3), "w2": (32, 16, 3, 3), "w3": (2048, 10)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / 10).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "w3"], ["scores"]),
    ]
    image, scores = {"image": [-1, 1, 8, 8]}, {"scores": [-1, 10]}
    graph = helper.make_graph(nodes, "digits", _values(image), _values(scores), weights)
    return _write(folder, graph, {"name": "digits", "inputs": _entries(image), "outputs": _entries(scores)})


def _write(folder: Path, graph: object, document: dict[str, object]) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for part in ("model", "outputs"):
        (folder / part).mkdir(parents=True)
    (folder / "model" / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "outputs" / "model.yml").write_text(json.dumps({**document, "batches": True}))
    return folder


def _values(tensors: dict[str, list[int]]) -> list[object]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[1:]]) for name, shape in tensors.items()
    ]


def _entries(tensors: dict[str, list[int]]) -> list[dict[str, object]]:
    return [{"name": name, "datatype": "FP32", "shape": shape} for name, shape in tensors.items()]


#: of the encoder: its layers, width, heads, tokens of a row and different tokens; 3.4 million weights, some ms a row
LAYERS, WIDTH, HEADS, TOKENS, VOCABULARY = 4, 256, 4, 64, 1000


def write_encoder(folder: Path) -> Path:
    """Write a model folder of a transformer's encoder over tokens, random weights, and return it."""
    graph = _Encoder()
    words = graph.weight((VOCABULARY, WIDTH))
    graph.node("Gather", [words, "tokens"], "x0")
    for layer in range(LAYERS):
        graph.layer(f"x{layer}", f"x{layer + 1}")
    graph.node("ReduceMean", [f"x{LAYERS}", graph.whole([1])], "mean", keepdims=0)
    graph.node("MatMul", ["mean", graph.weight((WIDTH, 10))], "scores")
    tokens = [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", TOKENS])]
    made = helper.make_graph(graph.nodes, "encoder", tokens, _values({"scores": [-1, 10]}), graph.weights)
    entry = {"name": "tokens", "datatype": "INT64", "shape": [-1, TOKENS]}
    return _write(folder, made, {"name": "encoder", "inputs": [entry], "outputs": _entries({"scores": [-1, 10]})})


class _Encoder:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.weights: list[object] = []
        self._random = np.random.default_rng(0)

    def weight(self, shape: tuple[int, ...]) -> str:
        return self._constant((self._random.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32))

    def whole(self, values: list[int]) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def _constant(self, array: object) -> str:
        self.weights.append(numpy_helper.from_array(array, name := f"w{len(self.weights)}"))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def layer(self, given: str, output: str) -> None:
        """Add attention and a feed-forward network, each with what it was given and normalised."""
        split, joined = self.whole([0, TOKENS, HEADS, WIDTH // HEADS]), self.whole([0, TOKENS, WIDTH])
        parts = []
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = self.node("MatMul", [given, self.weight((WIDTH, WIDTH))])
            parts.append(self.node("Transpose", [self.node("Reshape", [part, split])], perm=order))
        scale = self._constant(np.float32((WIDTH // HEADS) ** -0.5).reshape(()))
        shares = self.node("Softmax", [self.node("Mul", [self.node("MatMul", parts[:2]), scale])])
        heads = self.node("Transpose", [self.node("MatMul", [shares, parts[2]])], perm=[0, 2, 1, 3])
        mixed = self.node("MatMul", [self.node("Reshape", [heads, joined]), self.weight((WIDTH, WIDTH))])
        seen = self._normalised(given, mixed)
        inner = self.node("Relu", [self.node("MatMul", [seen, self.weight((WIDTH, 4 * WIDTH))])])
        self._normalised(seen, self.node("MatMul", [inner, self.weight((4 * WIDTH, WIDTH))]), output)

    def _normalised(self, given: str, added: str, output: str = "") -> str:
        ones = self._constant(np.ones(WIDTH, dtype=np.float32))
        return self.node("LayerNormalization", [self.node("Add", [given, added]), ones], output)
