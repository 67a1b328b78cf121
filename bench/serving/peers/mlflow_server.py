"""MLflow's scoring server: ``python mlflow_server.py MODEL_DIR PORT``; the model's own code is this file, too."""

import logging
import os
import sys
import tempfile
from typing import Any

import mlflow
from session import load


class Scores(mlflow.pyfunc.PythonModel):
    """The model, as MLflow's docs write one."""

    def load_context(self, context: Any) -> None:
        """Load it in the worker."""
        # no line for each request, as with the others
        logging.disable(logging.WARNING)
        self.run = load(os.environ["BENCH_MODEL"])

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Return the scores of several rows."""
        (rows,) = model_input.values()
        return self.run(rows)


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    folder = os.path.join(tempfile.mkdtemp(dir=os.path.dirname(sys.argv[1])), "model")
    here = os.path.dirname(os.path.abspath(__file__))
    os.environ["PYTHONPATH"] = here
    mlflow.pyfunc.save_model(folder, python_model=__file__, pip_requirements=["mlflow"])
    words = ["models", "serve", "-m", folder, "-p", sys.argv[2], "-h", "127.0.0.1", "--env-manager", "local", "-w", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *words])
else:
    mlflow.models.set_model(Scores())
