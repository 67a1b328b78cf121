"""``python checkpoints.py CODE_FOLDER TO NUMBER``: write checkpoints of the digits network, each with other weights."""

import importlib
import sys
from pathlib import Path

import torch


def main(code: str, to: str, number: str) -> None:
    """Write them."""
    sys.path.insert(0, code)
    model = importlib.import_module("digits")
    for step in range(1, int(number) + 1):
        torch.manual_seed(step)
        torch.save({"net": model.Net().state_dict()}, Path(to) / f"train-{step:06d}")


if __name__ == "__main__":
    main(*sys.argv[1:])
