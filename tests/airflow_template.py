"""A migrated database of Airflow: made once, and copied into each home in which a test starts an Airflow.

``make test`` makes it once for all its steps, in the folder that ``MODELWAY_TEST_TEMPLATES`` names; without it each
process of tests makes its own.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from modelway.localairflow.processes import LocalAirflow

#: the folder of the templates
FOLDER = "MODELWAY_TEST_TEMPLATES"
REPOSITORY = Path(__file__).resolve().parents[1]
#: what ``LocalAirflow.prepare`` makes of a database; the second says that nothing is to be migrated
DATABASE = ("airflow.db", "migrated")


def with_database(home: Path, *, name: str = "airflow") -> Path:
    """Put a migrated database into a home for the Airflow in its folder ``name``, and return the home.

    :param name: ``airflow-run`` for the one of ``modelway run``
    """
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in DATABASE:
        shutil.copyfile(_template() / file, folder / file)
    return home


@cache
def templates() -> Path:
    """Return the folder of what tests make once: of all steps, or of this process alone."""
    given = os.environ.get(FOLDER)
    if given:
        place = Path(given)
        place.mkdir(parents=True, exist_ok=True)
    else:
        place = Path(tempfile.mkdtemp(prefix="modelway-template-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@cache
def _template() -> Path:
    place = templates()
    with (place / "lock").open("w") as lock:
        # The first process makes it while the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        airflow = LocalAirflow(home=place, repository=REPOSITORY)
        airflow.prepare()
    return airflow.folder
