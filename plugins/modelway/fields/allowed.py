"""What specs may refer to beside their own files, by lists of the deployment's administrator, not of an author."""

import os
import re
from fnmatch import fnmatchcase

from modelway.fields.refusal import Refusal, shown

NOTIFIERS, SECRETS = "MODELWAY_NOTIFIERS", "MODELWAY_SECRETS"
#: the notifiers that come with Airflow's own providers; any connection and variable of Airflow
_DEFAULTS = {NOTIFIERS: ("airflow.providers.*",), SECRETS: ("*",)}
#: modelway's own connections: the lineage's database, the cluster, the registry
_OUR_OWN = "modelway_*"


def allowed_by(setting: str) -> tuple[str, ...]:
    """Return the patterns of a setting, in which ``*`` stands for anything; an empty text has none."""
    patterns = os.environ.get(setting)
    return _DEFAULTS[setting] if patterns is None else tuple(filter(None, re.split(r"[\s,]+", patterns)))


def is_usable(path: str) -> bool:
    """Return whether specs may name the notifier of this import path."""
    return any(fnmatchcase(path, pattern) for pattern in allowed_by(NOTIFIERS))


def check_notifier(path: str) -> str:
    """Return the import path of a notifier if specs may name it; nothing is imported.

    :raises Refusal: it is not on the list
    """
    if is_usable(path):
        return path
    do = f"Name one of these; an administrator adds to them with the variable {NOTIFIERS}"
    raise Refusal(f"{shown(path)} is none of the notifiers that specs may name", known=allowed_by(NOTIFIERS), do=do)


def check_secret(name: str) -> str:
    """Return the name of a connection or variable of Airflow if specs may give its value to jobs.

    :raises Refusal: it is not on the list, or is a connection that modelway itself uses
    """
    # From the environment Airflow reads a connection whatever the case of its id.
    if fnmatchcase(name.lower(), _OUR_OWN) or not any(fnmatchcase(name, pattern) for pattern in allowed_by(SECRETS)):
        do = f"Name another; an administrator lists them in the variable {SECRETS}"
        known = (*allowed_by(SECRETS), f"not {_OUR_OWN}")
        raise Refusal(f"{shown(name)} is not for jobs", known=known, do=do)
    return name
