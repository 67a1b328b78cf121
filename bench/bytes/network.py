"""A network of any size, as a model's Python and as a bare script that does the same with torch and ONNX Runtime alone.

As a script: ``python network.py FOLDER MEGABYTES`` trains, saves two checkpoints, loads and evaluates each, exports the
better one, saves it, loads it in ONNX Runtime and answers once, and prints the seconds of that.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTH = 2048
ROWS = 8


class Network(nn.Module):
    """Layers of 16 MiB each, added to what they get."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        width = WIDTH if megabytes >= 16 else 256
        layers = max(1, round(megabytes * 1e6 / (4 * width * width)))
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return numbers of the same shape."""
        for layer in self.layers:
            x = x + torch.tanh(layer(x)) / len(self.layers)
        return x


def rows(net: Network, seed: int) -> torch.Tensor:
    """Return a small batch."""
    return torch.randn(ROWS, net.layers[0].in_features, generator=torch.Generator().manual_seed(seed))


def loss_of(net: Network, seed: int) -> torch.Tensor:
    """Return how far the answers are from zero."""
    return functional.mse_loss(net(rows(net, seed)), torch.zeros(1))


def step(net: Network, seed: int) -> None:
    """Train a step of plain gradient descent."""
    loss_of(net, seed).backward()
    with torch.no_grad():
        for weights in net.parameters():
            weights -= 0.01 * weights.grad
            weights.grad = None


def load(path: Any, megabytes: float) -> Network:
    """Return the network of a checkpoint."""
    net = Network(megabytes)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def train(job: Any) -> None:
    """Train and save two checkpoints."""
    net = Network(job.params["megabytes"])
    for number in (1, 2):
        step(net, number)
        with job.checkpoint(step=number) as path:
            torch.save(net.state_dict(), path)


def evaluate(job: Any, checkpoint: Any) -> dict[str, float]:
    """Return the loss on other rows."""
    with torch.no_grad():
        return {"loss": float(loss_of(load(checkpoint, job.params["megabytes"]), 99))}


def export(job: Any, checkpoint: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return the module to freeze, and an example of its input."""
    net = load(checkpoint, job.params["megabytes"])
    return net, rows(net, 7)


def script(folder: Path, megabytes: float) -> None:
    """Do the same by hand."""
    torch.manual_seed(1)
    net = Network(megabytes)
    saved = []
    for number in (1, 2):
        step(net, number)
        torch.save(net.state_dict(), folder / f"{number}.pt")
        saved.append(folder / f"{number}.pt")
    del net
    with torch.no_grad():
        losses = {path: float(loss_of(load(path, megabytes), 99)) for path in saved}
    net = load(min(losses, key=losses.__getitem__), megabytes)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(net, (rows(net, 7),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    assert program is not None
    program.save(folder / "model.onnx", external_data=True)
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (name,) = [each.name for each in session.get_inputs()]
    (answer,) = session.run(None, {name: rows(net, 7).numpy()})
    assert abs(torch.from_numpy(answer) - net(rows(net, 7)).detach()).max() < 1e-3


if __name__ == "__main__":
    began = time.perf_counter()
    script(Path(sys.argv[1]), float(sys.argv[2]))
    print(time.perf_counter() - began)
