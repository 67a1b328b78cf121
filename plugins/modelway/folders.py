"""Where models, DAG files and the home are: by the environment, by Airflow's configuration, by how this was installed.

An installed package never uses folders beside itself. Airflow's settings are read as files and variables, since
importing its configuration takes a second and writes files of its own.
"""

import configparser
import os
from functools import lru_cache
from pathlib import Path

#: the section of Airflow's configuration that is ours, see ``get_provider_info``
SECTION = "modelway"
#: what is read of the other sections
_READ = frozenset({("core", "dags_folder"), ("core", "executor")})


def models_folder() -> Path:
    """Return the folder of the models.

    ``MODELWAY_MODELS``, else ``[modelway] models`` of Airflow's configuration, else ``include/models`` beside the
    folder ``plugins/`` that this library is in, else ``include/models`` beside Airflow's folder of DAG files.
    """
    if named := os.environ.get("MODELWAY_MODELS") or airflow_option(SECTION, "models"):
        return Path(named).absolute()
    return (beside_plugins() or dags_folder().parent) / "include" / "models"


def home_folder() -> Path:
    """Return the folder of everything that has no address of its own.

    ``MODELWAY_HOME``, else ``[modelway] home`` of Airflow's configuration, else ``.modelway`` beside the folder
    ``plugins/`` that this library is in, else ``modelway`` in ``AIRFLOW_HOME``.
    """
    if named := os.environ.get("MODELWAY_HOME") or airflow_option(SECTION, "home"):
        return Path(named).absolute()
    beside = beside_plugins()
    return airflow_home() / "modelway" if beside is None else beside / ".modelway"


def airflow_config() -> Path:
    """Return Airflow's configuration file: ``AIRFLOW_CONFIG``, by default ``airflow.cfg`` in ``AIRFLOW_HOME``."""
    named = os.environ.get("AIRFLOW_CONFIG")
    return Path(_expanded(named)) if named else airflow_home() / "airflow.cfg"


def dags_folder() -> Path:
    """Return Airflow's folder of DAG files: ``[core] dags_folder``, by default ``dags`` in ``AIRFLOW_HOME``."""
    named = airflow_option("core", "dags_folder")
    return Path(named).absolute() if named else airflow_home() / "dags"


def airflow_home() -> Path:
    """Return ``AIRFLOW_HOME``, by default ``~/airflow``."""
    return Path(_expanded(os.environ.get("AIRFLOW_HOME") or "~/airflow")).absolute()


def beside_plugins() -> Path | None:
    """Return the folder that holds ``plugins/`` with this library in it; None where it was installed as a package."""
    above = Path(__file__).resolve().parents[1]
    return above.parent if above.name == "plugins" else None


def airflow_option(section: str, name: str) -> str | None:
    """Return an option as Airflow finds it: by its ``AIRFLOW__SECTION__NAME``, else in ``airflow.cfg``; else None."""
    value = os.environ.get(f"AIRFLOW__{section.upper()}__{name.upper()}")
    if value is None:
        path = str(airflow_config())
        try:
            value = _configuration(path, os.stat(path).st_mtime_ns).get((section, name))
        except OSError:
            return None
    return _expanded(value) if value else None


@lru_cache(maxsize=4)
def _configuration(path: str, modified: int) -> dict[tuple[str, str], str]:
    """Return the values of an ``airflow.cfg``; of one that cannot be read, none: Airflow itself refuses it."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeError):
        return {}
    return {
        (section, name): value
        for section in parser.sections()
        for name, value in parser.items(section)
        if value and (section == SECTION or (section, name) in _READ)
    }


def _expanded(text: str) -> str:
    return os.path.expanduser(os.path.expandvars(text))
