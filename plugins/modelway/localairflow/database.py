"""Whether the database of a local Airflow has the schema of the Airflow that is installed."""

from importlib.metadata import version
from pathlib import Path

MARKER = "migrated"


def is_migrated(folder: Path) -> bool:
    """Return whether the database in the folder of an Airflow was brought to the installed version."""
    marker = folder / MARKER
    return marker.exists() and marker.read_text() == version("apache-airflow")


def record_migrated(folder: Path) -> None:
    """Record that the database in the folder of an Airflow has the schema of the installed version."""
    (folder / MARKER).write_text(version("apache-airflow"))
