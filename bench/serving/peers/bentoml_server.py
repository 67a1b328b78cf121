"""BentoML with its adaptive batching: ``python bentoml_server.py MODEL_DIR PORT``."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from session import load


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Scores:
    """The model, as BentoML's docs write one."""

    def __init__(self) -> None:
        """Load it in the worker."""
        self.run = load(os.environ["BENCH_MODEL"])

    @bentoml.api(route="/infer", batchable=True, max_batch_size=16)
    def infer(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of several rows."""
        return self.run(rows)


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    here = str(Path(__file__).parent)
    words = ["-m", "bentoml", "serve", "bentoml_server:Scores", "--working-dir", here, "--port", sys.argv[2]]
    os.execv(sys.executable, [sys.executable, *words, "--host", "127.0.0.1"])
