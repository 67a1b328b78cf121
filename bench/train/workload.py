"""The two workloads, each as ``train(job)`` of the job contract and as a bare script: the same loop, the same numbers.

As a script: ``python workload.py PARAMS_JSON RESULT_FILE CHECKPOINT_FILE``. It prints its loss and saves its weights
with torch.save, as a person would. Only torch is needed; the digits network is that of ``include/models/digits``.
"""

import contextlib
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Log = Callable[[int, float], None]
#: reports each step: its number and how many there are, and its examples
Report = Callable[[int, int, int], None]
Save = Callable[[int, dict[str, Any]], None]


class Block(nn.Module):
    """One layer of a decoder: attention to what came before, then a perceptron of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the next layer's input."""
        batch, length, width = x.shape
        parts = self.query_key_value(self.before_attention(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.perceptron(self.before_perceptron(x))


class Transformer(nn.Module):
    """A decoder over tokens; its embedding is its last layer too."""

    def __init__(self, *, vocabulary: int, length: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last = nn.LayerNorm(width)
        for weights in self.parameters():
            if weights.dim() > 1:
                nn.init.normal_(weights, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token at each place."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.last(self.blocks(self.tokens(tokens) + self.places(places)))
        return functional.linear(x, self.tokens.weight)


def transformer(params: dict[str, Any], device: str) -> dict[str, Any]:
    """Return the transformer of about 100 million parameters, or a small one, and what it is given at each step."""
    size = {"vocabulary": 32768, "length": 1024, "layers": 12, "width": 768, "heads": 12}
    batch = 32
    if params["small"]:
        size, batch = {"vocabulary": 512, "length": 64, "layers": 2, "width": 64, "heads": 2}, 4
    net = Transformer(**size).to(device)
    draw = torch.Generator(device).manual_seed(1)
    # The same few batches again and again, so that there is something to learn.
    shape = (8, batch, size["length"] + 1)
    data = torch.randint(size["vocabulary"], shape, device=device, generator=draw)

    def loss(net: nn.Module, step: int) -> torch.Tensor:
        tokens = data[step % len(data)]
        logits = net(tokens[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    weights = sum(one.numel() for one in net.parameters()) - net.places.weight.numel()
    attention = 12 * size["layers"] * size["width"] * size["length"]
    per_step = (6 * weights + attention) * batch * size["length"]
    return {"net": net, "loss": loss, "flop_per_step": per_step, "examples": batch * size["length"], "unit": "tokens"}


def digits(params: dict[str, Any], device: str) -> dict[str, Any]:
    """Return the network of the model digits and what it is given at each step: images of its shape."""
    net = _digits_module(Path(params["digits"])).Net().to(device)
    batch = 64
    draw = torch.Generator(device).manual_seed(1)
    images = torch.randint(17, (16, batch, 1, 8, 8), device=device, generator=draw).float()
    labels = torch.randint(10, (16, batch), device=device, generator=draw)

    def loss(net: nn.Module, step: int) -> torch.Tensor:
        return functional.cross_entropy(net(images[step % 16]), labels[step % 16])

    # Two for a multiplication and an addition; backwards costs twice as much as forwards.
    forward = 2 * (8 * 8 * 32 * 9 + 8 * 8 * 64 * 32 * 9 + 64 * 4 * 4 * 10)
    return {"net": net, "loss": loss, "flop_per_step": 3 * forward * batch, "examples": batch, "unit": "images"}


def _digits_module(path: Path) -> Any:
    """Load the model's file; of scikit-learn it needs only the images, which are not used here."""
    if importlib.util.find_spec("sklearn") is None:
        datasets = types.ModuleType("sklearn.datasets")
        datasets.load_digits = None  # type: ignore[attr-defined]
        sys.modules |= {"sklearn": types.ModuleType("sklearn"), "sklearn.datasets": datasets}
    spec = importlib.util.spec_from_file_location("digits_of_the_demo", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(params: dict[str, Any], *, log: Log, report: Report, save: Save) -> dict[str, Any]:
    """Train; return how long the steps after the warm-up took, and how much they computed."""
    device, steps, warmup = params["device"], params["steps"], params["warmup"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    work = {"transformer": transformer, "digits": digits}[params["workload"]](params, device)
    net, loss_of = work["net"], work["loss"]
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, fused=device == "cuda")
    compiled = torch.compile(net) if params["compile"] else net
    low = torch.autocast(device, dtype=torch.bfloat16) if params["bf16"] else contextlib.nullcontext()
    began = time.perf_counter()
    for step in range(1, warmup + steps + 1):
        with low:
            loss = loss_of(compiled, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        report(step, warmup + steps, work["examples"])
        if step % params["log_every"] == 0:
            log(step, loss.item())
        if step == warmup:
            _wait_for(device)
            warm = time.perf_counter()
    _wait_for(device)
    ended = time.perf_counter()
    save(warmup + steps, net.state_dict())
    return {
        "steps": steps,
        "steps_seconds": ended - warm,
        "warmup_seconds": warm - began,
        "save_seconds": time.perf_counter() - ended,
        "flop_per_step": work["flop_per_step"],
        "examples_per_step": work["examples"],
        "unit": work["unit"],
        "parameters": sum(one.numel() for one in net.parameters()),
        "last_loss": loss.item(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
    }


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def train(job: Any) -> None:
    """Train as a job."""

    def save(step: int, state: dict[str, Any]) -> None:
        with job.checkpoint(step=step) as path:
            torch.save(state, path)

    result = run(
        job.params,
        log=lambda step, loss: job.log(step=step, loss=loss),
        report=lambda step, total, examples: job.progress(step=step, total=total, examples=examples),
        save=save,
    )
    (job.output / "result.json").write_text(json.dumps(result))


def main(params: str, result: str, checkpoint: str) -> None:
    """Train as a script."""
    measured = run(
        json.loads(params),
        log=lambda step, loss: print(f"step {step}: loss={loss:.6g}", flush=True),
        report=lambda step, total, examples: None,
        save=lambda step, state: torch.save(state, checkpoint),
    )
    Path(result).write_text(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
