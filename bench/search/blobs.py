"""A small network on points of two spirals, trained by candidates of a sweep: rate, momentum and width count."""

import io
from typing import Any

import numpy as np


def data(seed: int, rows: int) -> tuple[Any, Any]:
    """Return points of two classes on two spirals, and their classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 2, rows)
    turns = np.sqrt(random.random(rows)) * 2.2 * np.pi
    angle = turns + np.pi * classes
    points = np.stack([turns * np.cos(angle), turns * np.sin(angle)], 1) / 4 + random.normal(0, 0.08, (rows, 2))
    return points, classes


def train(job: Any) -> None:
    """Train by stochastic descent with momentum, from the checkpoint of the stage before."""
    params, random = job.params, np.random.default_rng(job.seed)
    net, speed = new_net(params["width"], random), None
    if job.start_from:
        net, speed = load(job.start_from)
    speed = speed or {name: np.zeros_like(value) for name, value in net.items()}
    points, classes = data(0, params["rows"])
    batch = len(points) // 80
    for _ in range(params["epochs"]):
        order = random.permutation(len(points))
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            for name, slope in slopes(net, points[rows], classes[rows]).items():
                speed[name] = params["momentum"] * speed[name] - params["rate"] * slope
                net[name] = net[name] + speed[name]
    with job.checkpoint(step=params["epochs"]) as path, path.open("wb") as file:
        np.savez(file, **net, **{f"speed_{name}": value for name, value in speed.items()})


def evaluate(job: Any, checkpoint: Any) -> dict[str, float]:
    """Return loss and accuracy on points that training has not seen."""
    net, _ = load(checkpoint)
    points, classes = data(1, 4000)
    _, scores = forward(net, points)
    return {"loss": float(loss(scores, classes)), "accuracy": float(((scores > 0) == classes).mean())}


def export(job: Any, checkpoint: Any) -> Any:
    """Nothing is frozen here."""
    raise NotImplementedError


def new_net(width: int, random: Any) -> dict[str, Any]:
    """Return the weights of two hidden layers."""
    shapes = {"a": (2, width), "b": (width, width), "c": (width, 1)}
    net = {name: random.normal(0, 1 / np.sqrt(shape[0]), shape) for name, shape in shapes.items()}
    return net | {f"{name}0": np.zeros(shape[1]) for name, shape in shapes.items()}


def load(checkpoint: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return weights and speeds."""
    with np.load(io.BytesIO(checkpoint.read_bytes())) as stored:
        found = {name: stored[name] for name in stored.files}
    net = {name: value for name, value in found.items() if not name.startswith("speed_")}
    return net, {name: found[f"speed_{name}"] for name in net}


def forward(net: dict[str, Any], points: Any) -> tuple[tuple[Any, Any], Any]:
    """Return what the hidden layers and the network answer."""
    first = np.tanh(points @ net["a"] + net["a0"])
    second = np.tanh(first @ net["b"] + net["b0"])
    return (first, second), (second @ net["c"] + net["c0"])[:, 0]


def loss(scores: Any, classes: Any) -> Any:
    """Return the mean cross entropy."""
    return np.mean(np.logaddexp(0, scores) - classes * scores)


def slopes(net: dict[str, Any], points: Any, classes: Any) -> dict[str, Any]:
    """Return the derivatives of the loss."""
    (first, second), scores = forward(net, points)
    out = ((1 / (1 + np.exp(-np.clip(scores, -60, 60))) - classes) / len(classes))[:, None]
    back = (out @ net["c"].T) * (1 - second**2)
    front = (back @ net["b"].T) * (1 - first**2)
    found = {"c": second.T @ out, "b": first.T @ back, "a": points.T @ front}
    return found | {"c0": out.sum(0), "b0": back.sum(0), "a0": front.sum(0)}
