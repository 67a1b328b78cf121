"""The peer: one process that imports the model once and evaluates every checkpoint in a plain loop.

``python loop.py CODE_FOLDER CHECKPOINT…`` prints each checkpoint's metrics and the seconds inside ``evaluate`` as JSON.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace


def main(code: str, *checkpoints: str) -> None:
    """Evaluate and print."""
    sys.path.insert(0, code)
    model = importlib.import_module("digits")
    # A plain loop draws no charts: what the model reports to its job is dropped.
    job = SimpleNamespace(predictions=lambda **reported: None)
    began = time.monotonic()
    metrics = [model.evaluate(job, Path(checkpoint)) for checkpoint in checkpoints]
    print(json.dumps({"metrics": metrics, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
