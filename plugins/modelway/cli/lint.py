"""``modelway lint``: check model specs, all problems at once."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.names import nearest

if TYPE_CHECKING:
    from modelway.spec.load import LoadedSpecs
    from modelway.spec.problems import Problem
    from modelway.spec.rules import Finding

FORMATS = ("text", "json", "github")


def add_commands(subparsers: Any) -> None:
    """Add ``lint`` to the command line."""
    parser = subparsers.add_parser(
        "lint",
        help="check model specs",
        description="Check model specs, in each of their environments, and the Python beside them. "
        "Exit status: 0 no problem, 1 problems, 2 a path that does not exist or a wrong use.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a folder of models, a model's folder or a model.yaml (default: the folder of the models)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="json: a list; github: annotations of a workflow's run"
    )
    parser.add_argument("--env", metavar="NAME", help="check this environment alone (default: all)")
    parser.set_defaults(run=lint)


def lint(args: argparse.Namespace) -> int:
    """Check the specs at ``args.paths``, print what is wrong and return the exit status."""
    from modelway.spec.load import FILE_NAME, find_specs, load_files, misnamed, models_folder
    from modelway.spec.problems import counted

    files: list[Path] = []
    problems: list[Problem] = []
    for path in args.paths or [models_folder()]:
        if reason := _unusable(path, FILE_NAME, is_default=not args.paths):
            print(printable(f"modelway lint: {reason}"), file=sys.stderr)
            return 2
        if path.name == FILE_NAME and not os.path.isdir(path):
            files.append(path)
        elif os.path.lexists(path / FILE_NAME):
            files.append(path / FILE_NAME)
        else:
            found, unread = find_specs(path)
            files += found
            problems += (*misnamed(path.absolute() / FILE_NAME), *unread)
    loaded = load_files(files, environment=args.env or "", every_environment=True, more=_notifiers)
    problems += loaded.problems
    problems += unknown_to_all(loaded, files, args.env)
    good = f"{counted(len(loaded.specs), 'model spec')}, no problems"
    if loaded.warnings:
        good += f", {counted(len(loaded.warnings), 'warning')}"
    print(printable({"text": _text, "json": _json, "github": _github}[args.format](problems, loaded.warnings, good)))
    return 1 if problems else 0


def _notifiers(data: Mapping[str, Any]) -> "Iterable[Finding]":
    """Find what is no notifier; Airflow is loaded for a spec that names one."""
    if not data.get("notifications"):
        return ()
    from modelway.dag.notify import notifier_findings

    return notifier_findings(data)


def unknown_to_all(loaded: "LoadedSpecs", files: Sequence[Path], environment: str | None) -> tuple["Problem", ...]:
    """Return the problem of an environment that no model in the folders of these has."""
    from modelway.spec.load import find_specs, load_files, unknown_environment

    if not files or not unknown_environment(loaded, folder=files[0], environment=environment):
        return ()
    folders = list(dict.fromkeys(file.absolute().parent.parent for file in files))
    everyone = load_files([file for folder in folders for file in find_specs(folder)[0]], environment="")
    return unknown_environment(everyone, folder=folders[0], environment=environment)


def printable(text: str) -> str:
    """Return the text with characters escaped that the terminal cannot show or would interpret."""
    # Control characters of file names, and halves of characters from names that are no UTF-8.
    plain = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def _text(problems: Sequence["Problem"], warnings: Sequence["Problem"], good: str) -> str:
    from modelway.spec.problems import render

    return "\n".join([render(problems) if problems else good, *map(str, warnings)])


def _json(problems: Sequence["Problem"], warnings: Sequence["Problem"], good: str) -> str:
    from modelway.spec.problems import display

    return json.dumps(
        [asdict(problem) | {"file": display(problem.file)} for problem in (*problems, *warnings)], indent=1
    )


def _github(problems: Sequence["Problem"], warnings: Sequence["Problem"], good: str) -> str:
    """Return workflow commands: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    from modelway.spec.problems import display

    lines = []
    for one in (*problems, *warnings):
        place = {"file": display(one.file), "line": one.line, "col": one.column, "title": one.where or "model spec"}
        properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
        lines.append(f"::{one.severity} {properties}::{_data(one.message)}")
    return "\n".join(lines) if lines else good


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _unusable(path: Path, file_name: str, *, is_default: bool) -> str | None:
    """Return why there is nothing to check at a path, or None."""
    from modelway.spec.load import models_folder
    from modelway.spec.problems import display

    if not os.path.exists(path):
        if is_default:
            return f"{path} does not exist. Make it with modelway init, or set MODELWAY_MODELS to the right one."
        if (of_model := models_folder() / path.name) != path.absolute() and os.path.lexists(of_model / file_name):
            return f"{path} does not exist. Did you mean '{display(of_model)}'?"
        try:
            near = nearest(path.name, os.listdir(path.parent))
        except OSError:
            near = None
        return f"{path} does not exist." + (f" Did you mean '{path.parent / near}'?" if near else "")
    if not os.path.isdir(path) and path.name != file_name:
        return f"{path} is not a {file_name}. Name a folder or a {file_name}."
    return None
