"""Calling notifiers of Airflow that a spec names, with one line of what happened."""

import logging
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from modelway.fields.allowed import check_notifier
from modelway.fields.refusal import Refusal, shown

_log = logging.getLogger(__name__)
#: the name of the line in a notifier's templates
MESSAGE = "modelway_message"


def call_notifiers(
    notifiers: Iterable[tuple[str, Mapping[str, Any]]], context: Mapping[str, Any], message: str
) -> None:
    """Call each notifier with the line under ``modelway_message``; one that fails is logged."""
    _log.info("%s", message)
    for path, args in notifiers:
        try:
            notifier = load_notifier(path)(**args)
            notifier({**context, MESSAGE: message})
        except Exception as error:
            _log.error("the notifier %s failed: %s: %s", path, type(error).__name__, error)


def load_notifier(path: str) -> Any:
    """Return the class of a notifier; a path on no list is not imported, and a class that is no notifier is refused.

    :raises Refusal: it is not a notifier that a spec may name
    :raises ImportError: its module cannot be imported
    """
    from airflow.sdk import BaseNotifier

    module, _, name = check_notifier(path).rpartition(".")
    found = getattr(import_module(module), name, None)
    if isinstance(found, type) and issubclass(found, BaseNotifier):
        return found
    what = f"{shown(path)} is {'no notifier' if found else 'not there'}"
    raise Refusal(what, do=f"Name a class of {module} that inherits from Airflow's BaseNotifier")
