"""The environment of clients that are not ours (tests/system/install_clients.sh), and what they read from a server."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def require_clients() -> None:
    """Skip the test where the clients are not installed; on CI they must be."""
    if not (ROOT / ".venv-clients" / ".installed").exists():
        assert os.environ.get("CI") != "true", "the clients are not installed"
        pytest.skip("the clients are not installed: make services")


def read_by(name: str, *arguments: object) -> dict[str, Any]:
    """Return what the client tests/clients/NAME prints: it drives a server with a library of others."""
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "clients" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
