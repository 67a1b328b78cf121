"""The ``modelway`` command: one file per command group."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelway.cli.index import COMMANDS

if TYPE_CHECKING:
    from modelway.errors import ModelwayError


#: the groups of commands that an Airflow can answer
_REMOTE = ("versions", "sweep", "diff", "serving", "explain", "release")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 refused or failed with a reason, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="modelway", description="Take a machine-learning model from code to traffic on Apache Airflow."
    )
    # A name of its own: render has an option --server, too.
    where = "an Airflow whose pages answer in place of the database"
    parser.add_argument("--server", dest="airflow_url", metavar="URL", help=where)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # Modules that only other commands need are not imported.
    wanted = COMMANDS.get(next((each for each in _after_server(arguments) if not each.startswith("-")), ""))
    if wanted:
        importlib.import_module(f"modelway.cli.{wanted.group}").add_commands(commands)
    else:
        for name, command in COMMANDS.items():
            commands.add_parser(name, help=command.help)
    args = parser.parse_args(arguments)
    if args.airflow_url and getattr(wanted, "group", None) not in _REMOTE:
        served = "versions, show, sweep, diff, serving, explain, release and rollback"
        parser.error(f"--server goes with {served}; others work here")
    if args.airflow_url:
        os.environ["MODELWAY_SERVER"] = args.airflow_url
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has closed the pipe; what is still buffered must not fail at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (refusal := _refusal(error)) is None:
            raise
        print(f"modelway: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("modelway: stopped", file=sys.stderr)
        return 130


def _after_server(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments without a first ``--server URL``."""
    return arguments[2:] if arguments[:1] == ["--server"] else arguments


def _refusal(error: Exception) -> "ModelwayError | None":
    """Return an error's message for the user; None for a bug of modelway, which shows its traceback."""
    from modelway.errors import ModelwayError, disk_full
    from modelway.folders import home_folder

    home = home_folder()
    if (full := disk_full(error, folder=home)) is not None:
        return full
    if isinstance(error, ModelwayError):
        return error
    if isinstance(error, PermissionError) and error.filename and Path(os.fsdecode(error.filename)).is_relative_to(home):
        return ModelwayError(
            f"the home {home} is closed to this user (permission denied)",
            where=os.fsdecode(error.filename),
            do="Run the command as the user of Airflow, or set MODELWAY_HOME to a folder of your own",
        )
    return None
