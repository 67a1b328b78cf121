"""``modelway lint``: check model specs, all problems at once."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from modelway.names import nearest


def add_commands(subparsers: Any) -> None:
    """Add ``lint`` to the command line."""
    parser = subparsers.add_parser(
        "lint",
        help="check model specs",
        description="Check model specs and the Python beside them. Exit status: 0 no problem, 1 problems, "
        "2 a path that does not exist.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a folder of models, a model's folder or a model.yaml (default: the folder of the models)",
    )
    parser.set_defaults(run=lint)


def lint(args: argparse.Namespace) -> int:
    """Check the specs at ``args.paths``, print what is wrong and return the exit status."""
    from modelway.spec.load import FILE_NAME, find_specs, load_files, models_folder
    from modelway.spec.problems import Problem, counted, render

    files: list[Path] = []
    problems: list[Problem] = []
    for path in args.paths or [models_folder()]:
        if reason := _unusable(path, FILE_NAME):
            print(f"modelway lint: {reason}", file=sys.stderr)
            return 2
        if path.name == FILE_NAME and not path.is_dir():
            files.append(path)
        elif os.path.lexists(path / FILE_NAME):
            files.append(path / FILE_NAME)
        else:
            found, unread = find_specs(path)
            files += found
            problems += unread
    loaded = load_files(files)
    problems += loaded.problems
    if problems:
        print(render(problems))
        return 1
    print(f"{counted(len(loaded.specs), 'model spec')}, no problems")
    return 0


def _unusable(path: Path, file_name: str) -> str | None:
    """Return why there is nothing to check at a path, or None."""
    if not os.path.exists(path):
        try:
            near = nearest(path.name, os.listdir(path.parent))
        except OSError:
            near = None
        return f"{path} does not exist." + (f" Did you mean '{path.parent / near}'?" if near else "")
    if path.is_file() and path.name != file_name:
        return f"{path} is not a {file_name}. Name a folder or a {file_name}."
    return None
