"""The DAG files of a deployment: those of a clone where there is one, else those that the package ships."""

from pathlib import Path

from modelway.folders import beside_plugins

TEMPLATES = Path(__file__).parent / "templates"


def repository() -> Path | None:
    """Return the folder that holds ``dags/`` with our files and ``plugins/``, None where there is no such folder."""
    folder = beside_plugins()
    return folder if folder and all((folder / "dags" / name).is_file() for name in dag_files()) else None


def dag_files() -> dict[str, str]:
    """Return the texts of the DAG files by their names."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.py.tmpl"))}
