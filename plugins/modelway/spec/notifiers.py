"""The notifiers that specs may name: a list that whoever runs the deployment sets, never the author of a model."""

import os
import re
from fnmatch import fnmatchcase

from modelway.spec.problems import Refusal, shown

SETTING = "MODELWAY_NOTIFIERS"
#: the notifiers that come with Airflow's own providers
DEFAULT = ("airflow.providers.*",)


def usable_notifiers() -> tuple[str, ...]:
    """Return the import paths of ``MODELWAY_NOTIFIERS``, in which ``*`` stands for anything; an empty text has none."""
    given = os.environ.get(SETTING)
    return DEFAULT if given is None else tuple(re.split(r"[\s,]+", given.strip(", \t\n"))) if given.strip() else ()


def is_usable(path: str) -> bool:
    """Return whether specs may name this import path."""
    return any(fnmatchcase(path, pattern) for pattern in usable_notifiers())


def check_notifier(path: str) -> str:
    """Return the import path if specs may name it; nothing is imported.

    :raises Refusal: it is on no list
    """
    if is_usable(path):
        return path
    do = f"Name one of these; whoever runs this deployment adds to them by the variable {SETTING}"
    raise Refusal(f"{shown(path)} is none of the notifiers that specs may name", known=usable_notifiers(), do=do)
