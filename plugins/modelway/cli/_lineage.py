"""What the commands that read the lineage share: the database, the names of versions, times as people write them."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from modelway.errors import ModelwayError
from modelway.lineage.records.times import parse_time

if TYPE_CHECKING:
    from modelway.cli._remote import RemoteLineage
    from modelway.lineage.store import Lineage


def read_records() -> "Lineage | RemoteLineage":
    """Return the lineage that the settings name or, with ``--server``, what an Airflow answers of its own.

    :raises ModelwayError: nothing was recorded yet, or it cannot be read
    """
    from modelway.cli._remote import RemoteLineage, remote_airflow

    return read_lineage() if (api := remote_airflow()) is None else RemoteLineage(api)


def read_lineage() -> "Lineage":
    """Open the lineage that the settings name, without write access.

    :raises ModelwayError: nothing was recorded yet, or it cannot be read
    """
    if (lineage := lineage_if_any()) is None:
        raise ModelwayError(
            "the lineage is empty: nothing was registered yet",
            do="Run a model's DAG, or set MODELWAY_HOME or MODELWAY_LINEAGE_URL to where it was recorded",
        )
    return lineage


def lineage_if_any() -> "Lineage | None":
    """Open the lineage that the settings name, without write access; None, where nothing was recorded yet.

    :raises ModelwayError: it cannot be read
    """
    from modelway.hooks.settings import load_settings
    from modelway.lineage.store import open_lineage

    return open_lineage(load_settings().lineage_url, read_only=True)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a version."""
    text = "a model and a number, v3, an alias such as champion, or latest: digits 3, digits@3, digits champion"
    parser.add_argument("version", metavar="MODEL VERSION | MODEL@VERSION", nargs="+", help=text)


def read_version(arguments: Sequence[str]) -> tuple[str, str]:
    """Return the model and the version that the arguments name: ``digits 3``, ``digits@v3``, ``digits champion``.

    :raises ModelwayError: they name no version
    """
    found = read_versions(arguments)
    if len(found) != 1:
        raise ModelwayError("one version is named", do="Write MODEL VERSION, or MODEL@VERSION")
    return found[0]


def read_versions(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the models and versions that the arguments name; one without ``@`` is a version of the model before it.

    :raises ModelwayError: a model comes without a version, or a version without a model
    """
    if arguments and arguments[0].startswith("@"):
        raise ModelwayError(f"the model of '{arguments[0]}' is missing", do=f"Write MODEL{arguments[0]}")
    found: list[tuple[str, str]] = []
    model, is_open = "", False
    for argument in arguments:
        name, sign, version = argument.rpartition("@")
        if sign and (name or model):
            model, is_open = name or model, False
            found.append((model, version))
        elif model:
            found.append((model, argument))
            is_open = False
        else:
            model, is_open = argument, True
    if is_open or not all(version for _, version in found):
        raise ModelwayError(
            f"the version of '{model}' is missing",
            do=f"Write {model} 3, {model}@3, {model} champion or {model} latest",
        )
    return found


def add_time(parser: argparse.ArgumentParser) -> None:
    """Add ``--at TIME``."""
    text = "as it was then: 2026-03-01, 2026-03-01T12:00 or with a zone, +02:00; without one it is UTC"
    parser.add_argument("--at", metavar="TIME", help=text)


def time_of(text: str | None) -> datetime | None:
    """Parse a time that may be left out.

    :raises ModelwayError: it is not a time
    """
    return None if text is None else parse_time(text)
