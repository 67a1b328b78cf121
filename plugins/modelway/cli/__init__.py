"""The ``modelway`` command: one file per command group."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

GROUPS = (
    "asset",
    "backfill",
    "demo",
    "diff",
    "endpoint",
    "explain",
    "exports",
    "gc",
    "init",
    "lineage",
    "lint",
    "new",
    "render",
    "reproduce",
    "run",
    "serving",
    "versions",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 refused or failed with a reason, 2 wrong usage."""
    from modelway.errors import ModelwayError, disk_full
    from modelway.folders import home_folder

    parser = argparse.ArgumentParser(
        prog="modelway", description="Take a machine-learning model from code to traffic on Apache Airflow."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in GROUPS:
        importlib.import_module(f"modelway.cli.{group}").add_commands(commands)
    args = parser.parse_args(arguments)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except ModelwayError as error:
        print(f"modelway: {disk_full(error, folder=home_folder()) or error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has enough of it; what is still buffered must not fail at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (full := disk_full(error, folder=home_folder())) is None:
            raise
        print(f"modelway: {full}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("modelway: stopped", file=sys.stderr)
        return 130
