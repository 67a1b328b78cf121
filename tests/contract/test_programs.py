"""What only a Python process of its own shows: what it imports, how it ends, and what it writes to a pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from modelway.cli.index import COMMANDS
from modelway.lineage.store import open_lineage
from modelway.ports import PORTS

from tests.unit.spec_samples import write_model

ROOT = Path(__file__).parents[2]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import modelway.cli.versions", ("sqlalchemy", "rich", "airflow")),
        ("import modelway.cli.asset, modelway.cli.gc", ("sqlalchemy", "rich", "fsspec")),
    ],
    ids=["versions", "asset"],
)
def test_the_commands_are_there_without_loading_a_database_library(code: str, heavy: tuple[str, ...]) -> None:
    found = run_python(f"import sys; {code}; print([name for name in {heavy!r} if name in sys.modules])")
    assert found.stdout.strip() == "[]", found.stderr


def test_opening_a_current_database_is_cheap_and_loads_no_migration_tool(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lineage.db"
    open_lineage(url)
    code = (
        "import sys, time; from modelway.lineage.store import open_lineage\n"
        f"def cost(): start = time.process_time(); open_lineage({url!r}); return time.process_time() - start\n"
        "print(min(cost() for _ in range(20)) < 0.01, 'alembic' in sys.modules)"
    )
    found = run_python(code)
    assert found.stdout.split() == ["True", "False"], found.stderr


def test_reading_specs_imports_little(tmp_path: Path) -> None:
    write_model(tmp_path, "m", spec="model: m\ntrain: {backend: local}\n")
    code = (
        "import sys; from pathlib import Path; before = set(sys.modules)\n"
        "from modelway.spec.load import load_specs\n"
        f"assert load_specs(Path({str(tmp_path)!r})).specs\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('modelway.')))"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    roots, ours = (line.split() for line in done.stdout.splitlines())
    allowed = {"modelway", "pydantic", "pydantic_core", "yaml", "annotated_types", "typing_extensions"}
    allowed |= {"typing_inspection"}
    # What compiled modules register beside themselves is not an import of ours.
    assert {name for name in roots if not name.startswith(("_", "cython"))} <= allowed
    artifacts = {name for name in ours if name.startswith("modelway.artifacts.")}
    assert artifacts <= {
        f"modelway.artifacts.{name}" for name in ("code_package", "commits", "snapshot", "whole_files")
    }
    assert {name.split(".")[1] for name in ours} == {
        "artifacts",
        "spec",
        "errors",
        "failures",
        "folders",
        "job",
        "names",
        "backends",
        "builders",
        "endpoints",
        "fields",
        "platforms",
        "ports",
    }
    # Of the ports what their members say of themselves, with their sections: no client, no backend.
    members = {".".join(name.split(".")[3:]) for name in ours if name.split(".")[1] in PORTS}
    assert members <= {"", "member", "section", "launchers", "settings"}
    assert {name for name in ours if name.startswith("modelway.platforms.")} <= {
        "modelway.platforms.google",
        "modelway.platforms.google.forms",
        "modelway.platforms.kubernetes",
        "modelway.platforms.kubernetes.patch",
        "modelway.platforms.processes",
        "modelway.platforms.processes.hosts",
    }


def test_the_dag_file_raises_one_error_that_lists_every_bad_spec(tmp_path: Path) -> None:
    file = ROOT / "dags" / "model_specs.py"
    code = f"import runpy; runpy.run_path({str(file)!r})"
    write_model(tmp_path, "good")
    assert run_python(code, MODELWAY_MODELS=str(tmp_path)).returncode == 0
    write_model(tmp_path, "one", spec="model: one\nretries: -1\n")
    write_model(tmp_path, "two", spec="model: two\nowner: 3\n")
    done = run_python(code, MODELWAY_MODELS=str(tmp_path))
    assert done.returncode == 1
    assert "InvalidSpec: 2 problems in 2 model specs\n" in done.stderr
    assert "one/model.yaml:2:10  retries: must be at least 0, got -1." in done.stderr
    assert "two/model.yaml:2:8  owner: expected text, got 3." in done.stderr


def test_the_command_ends_with_1_for_a_run_that_is_not_there(tmp_path: Path) -> None:
    assert "explain" in COMMANDS
    open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    done = run_python(
        "from modelway.cli import main; raise SystemExit(main(['explain', 'nothing']))",
        MODELWAY_HOME=str(tmp_path),
        MODELWAY_LINEAGE_URL=f"sqlite:///{tmp_path}/lineage.db",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("modelway: no run and no model is called 'nothing'. Known: none.")


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    write_model(models, "one", spec="model: one\nextends: one.yaml\n")
    (models / "one" / "one.yaml").write_text("extends: ./one.yaml\n")
    (models / "one" / "é").write_text("")
    monkeypatch.chdir(tmp_path)
    code = "import sys; from modelway.cli import main; sys.exit(main(['lint']))"
    done = run_python(code, MODELWAY_MODELS=str(models), PYTHONIOENCODING="ascii")
    assert done.returncode == 1, done.stderr
    assert "in a cycle: models/one/one.yaml \\u2192 models/one/one.yaml" in done.stdout


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    command = [Path(sys.executable).parent / "modelway", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
