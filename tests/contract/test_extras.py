"""A package that belongs to an extra and is missing is named by that extra; each extra resolves to what it names."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.errors import CapabilityMissing, ModelwayError
from modelway.lineage.schema.engine import connect_engine, parse_url
from modelway.platforms.google.connection import GoogleConnection
from modelway.platforms.google.credentials import GoogleCredentials
from packaging.requirements import Requirement
from packaging.version import Version

from tests.contract.test_job_main import reason, run
from tests.job_folders import write_job

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("package", ["torch", "onnx.helper", "sklearn.datasets"])
def test_in_a_job(tmp_path, package):
    folder = write_job(tmp_path, code=f"import sys\nsys.modules['{package.split('.')[0]}'] = None\nimport {package}\n")
    assert run(folder).returncode == 1
    assert reason(folder).endswith("(tiny.py:3 in <module>); install modelway[torch] where this job runs")


def test_for_the_lineage(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ModelwayError, match=r"Install modelway\[postgres\]"):
        connect_engine(parse_url("postgresql://db/lineage"))


def test_for_artifacts(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CapabilityMissing, match=r"Install modelway\[google\]"):
        ArtifactStore("gs://bucket").put(tmp_path / "file", model="tiny")


def test_for_credentials_of_google(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(CapabilityMissing, match=r"Install modelway\[google\]"):
        GoogleCredentials(GoogleConnection()).headers()


def uv(*words: str) -> str:
    """Return what uv prints, with the index and the certificates that pip has here."""
    program = Path(sys.executable).with_name("uv")
    if not program.exists() and os.environ.get("CI") != "true":
        pytest.skip("uv is not installed: make setup")
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "120"}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    for ours, pips in (("UV_DEFAULT_INDEX", "index-url"), ("SSL_CERT_FILE", "cert")):
        if found := re.findall(rf"\.{pips}='([^']+)'", listed):
            environment.setdefault(ours, found[-1])
    done = subprocess.run((str(program), *words), cwd=ROOT, env=environment, capture_output=True, text=True)
    if (
        done.returncode
        and os.environ.get("CI") != "true"
        and re.search("error sending request|Failed to fetch", done.stderr)
    ):
        pytest.skip("the package index does not answer")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_resolves_from_nothing(extra):
    """Without the lock. Of Google's packages an unbounded one would be of years ago: that resolves best."""
    words = ("--quiet", "--no-header", "--no-annotate", "--python-version", "3.11", "--extra", extra)
    found = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", uv("pip", "compile", *words, "pyproject.toml"), flags=re.M))
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), flags=re.M))
    for requirement in map(Requirement, EXTRAS[extra]):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name == "modelway" or name in found
        if name in ("gcsfs", "google-auth", "apache-airflow-providers-google"):
            assert Version(found[name]) >= Version(locked[name]), name


@pytest.mark.timeout(900)
def test_the_extra_of_google_is_all_that_its_client_imports(tmp_path):
    """In an environment that has nothing else: neither the provider nor a generated client."""
    python = tmp_path / "venv" / "bin" / "python"
    uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    uv("pip", "install", "--quiet", "--python", str(python), "httpx", *EXTRAS["google"])
    code = "import gcsfs, google.oauth2.service_account, modelway.platforms.google.operations, sys; " + (
        "print([name for name in ('airflow', 'google.cloud.aiplatform', 'google.cloud.run_v2') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run([str(python), "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
