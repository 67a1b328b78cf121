"""A real MLflow server of the tests' own, and what MLflow's own client reads from it; see system/install_mlflow.sh."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-mlflow" / "bin" / "python"

#: answers each line, names of experiments and registered models, with all that MLflow's own client finds of them
_READ = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1], sys.argv[1])

def of_run(experiment, run):
    history = {
        key: sorted([p.step, repr(p.value), p.timestamp] for p in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }
    inputs = [
        {"tags": {t.key: t.value for t in each.tags}}
        | {key: getattr(each.dataset, key) for key in ("name", "digest", "source", "schema", "profile")}
        for each in run.inputs.dataset_inputs
    ]
    return {
        "experiment": experiment.name, "id": run.info.run_id, "name": run.info.run_name, "status": run.info.status,
        "start": run.info.start_time, "end": run.info.end_time, "params": run.data.params, "tags": run.data.tags,
        "last": {key: repr(value) for key, value in run.data.metrics.items()}, "history": history, "inputs": inputs,
    }

def of_model(model):
    versions = client.search_model_versions(f"name = '{model.name}'")
    return {
        "name": model.name, "tags": model.tags, "aliases": model.aliases,
        "versions": [
            {"number": v.version, "source": v.source, "run": v.run_id, "tags": v.tags, "description": v.description}
            for v in sorted(versions, key=lambda v: int(v.version))
        ],
    }

for line in sys.stdin:
    names = json.loads(line)
    experiments = filter(None, map(client.get_experiment_by_name, names))
    runs = [of_run(each, run) for each in experiments for run in client.search_runs([each.experiment_id])]
    models = list(map(of_model, map(client.get_registered_model, names)))
    print(json.dumps({"runs": runs, "models": models}), flush=True)
"""


class MlflowServer:
    """One server over an SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [PYTHON, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
        command += [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--artifacts-destination",
            self.folder / "artifacts",
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=_environment(), stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            log_text = (self.folder / "server.log").read_text()[-3000:]
            assert self._process.poll() is None, log_text
            assert time.monotonic() < until, log_text
            time.sleep(0.1)

    def kill(self) -> None:
        """End it with SIGKILL, its workers too."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=60)

    def read(self, *names: str) -> dict[str, Any]:
        """Return all that MLflow's own client finds of the models."""
        if self._reader is None:
            # One process for all that is read: to load the client takes seconds.
            self._reader = subprocess.Popen(
                [PYTHON, "-c", _READ, self.url],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self.folder / "reader.log").open("ab"),
                text=True,
            )
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.write(json.dumps(names) + "\n")
        self._reader.stdin.flush()
        line = self._reader.stdout.readline()
        assert line, (self.folder / "reader.log").read_text()[-3000:]
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the server and what reads from it."""
        self.kill()
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()


def _environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # MLflow's own background jobs are eight more processes, which nothing here needs.
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return ours | off | {"NO_PROXY": "127.0.0.1"}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Start a server; where none is installed the test is skipped, on CI it fails."""
    if not (ROOT / ".venv-mlflow" / ".installed").exists():
        assert os.environ.get("CI") != "true", "MLflow is not installed"
        pytest.skip("MLflow is not installed: make services")
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.close()
