"""The peers that are still maintained, each in an environment of its own: ``bench/serving/.peers/NAME``."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".peers"
#: the newest of each when this was written; what they need besides is resolved anew
PEERS = {
    "kserve": ("kserve==0.21.0",),
    "bentoml": ("bentoml==1.4.39",),
    "litserve": ("litserve==0.2.19",),
    "mlflow": ("mlflow==3.17.2",),
}
BESIDE = ("onnxruntime==1.31.1", "numpy==2.4.6")


def environ_of(peer: str) -> dict[str, str]:
    """Return the variables that it is run with; it must report its run to nobody."""
    path = f"{FOLDER / peer / 'bin'}:{os.environ['PATH']}"
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    return {"PATH": path, "PYTHONPATH": "", **quiet}


def command_of(peer: str) -> str:
    """Return the command that serves ``{model}`` on ``{port}``, after its environment is made."""
    folder = FOLDER / peer
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *PEERS[peer], *BESIDE], check=True, stdout=sys.stderr)
        (folder / ".ready").touch()
    return f"{python} {HERE}/peers/{peer}_server.py {{model}} {{port}}"
