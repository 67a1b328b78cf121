"""``modelway new NAME``: a model that works, to be changed into one's own."""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from modelway.errors import ModelwayError, NotWritable
from modelway.names import NAME_PATTERN

TEMPLATES = Path(__file__).parent / "templates"
SCHEMA = "# yaml-language-server: $schema=../schema.json\n"


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "new",
        help="write a new model that works",
        description="Write a small model that works: model.yaml and the model's Python, in a folder of their own.",
    )
    parser.add_argument("name", metavar="NAME", help="the model's name: lower-case letters, digits and '-' inside")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="put it there (default: the folder of the models)")
    parser.set_defaults(run=new)


def new(args: argparse.Namespace) -> int:
    """Write the model's folder and say what to do next.

    :raises ModelwayError: the name cannot be used, something of that name is there, or there is no such folder
    :raises NotWritable: the folder cannot be written
    """
    from modelway.spec.load import models_folder
    from modelway.spec.problems import display

    models = args.folder.absolute() if args.folder else models_folder()
    files = model_files(args.name, with_schema=(models / "schema.json").is_file())
    folder = write_model(models / args.name, files)
    for name in files:
        print(f"wrote {display(folder / name)}")
    setting = "" if models == models_folder() else f"MODELWAY_MODELS={shlex.quote(str(models))} "
    print("It works as it is. Check it, then train, register and serve its version 1:")
    print(f"  modelway lint {shlex.quote(display(folder))}")
    print(f"  {setting}modelway run {args.name}")
    return 0


def model_files(name: str, *, with_schema: bool) -> dict[str, str]:
    """Return the texts of a new model's files by their names.

    :param with_schema: there is a schema beside the models' folders: the file refers editors to it
    :raises ModelwayError: the name cannot be a model's
    """
    from modelway.spec.model import default_code

    check_name(name)
    code = default_code(name)
    if hides_a_module(Path(code).stem):
        code = f"{Path(code).stem}_model.py"
    spec = _filled("model.yaml", model=_yaml_text(name))
    if code != default_code(name):
        first, rest = spec.split("\n", 1)
        spec = f"{first}\ncode: {code}  # {default_code(name)} would hide another module\n{rest}"
    return {"model.yaml": SCHEMA * with_schema + spec, code: _filled("model.py")}


def check_name(name: str) -> None:
    """Check that ``name`` can be a model's name.

    :raises ModelwayError: it cannot; the message has the rule and a similar valid name
    """
    if re.fullmatch(NAME_PATTERN, name):
        return
    near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    raise ModelwayError(
        f"'{name}' cannot be a model's name",
        do="Use lower-case letters, digits and '-' inside, at most 40 characters"
        + (f", such as '{near}'" if near else ""),
    )


def hides_a_module(stem: str) -> bool:
    """Return whether a file ``<stem>.py`` would be imported in place of a module of Python or an installed package."""
    if stem in sys.stdlib_module_names:
        return True
    try:
        return importlib.util.find_spec(stem) is not None
    except (ImportError, ValueError):
        return True


def write_model(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files into a new folder that appears whole or not at all, and return it.

    :raises ModelwayError: something is there already, or the folder above is missing
    :raises NotWritable: it cannot be written
    """
    models = folder.parent
    if not models.is_dir():
        raise ModelwayError(
            "this is not a folder for models",
            where=str(models),
            do=f"Make it with: mkdir -p {shlex.quote(str(models))}",
        )
    if os.path.lexists(folder):
        raise ModelwayError(
            "there is something of this name already, and nothing is overwritten",
            where=str(folder),
            do="Take another name, or move what is there away",
        )
    beside: str | None = None
    try:
        # Hidden, so that a half-written folder is not read as a model.
        beside = tempfile.mkdtemp(prefix=f".{folder.name}.", dir=models)
        for name, text in files.items():
            (Path(beside) / name).write_text(text, encoding="utf-8")
        Path(beside).chmod(0o755)
        os.rename(beside, folder)
    except OSError as error:
        raise NotWritable(
            f"the folder cannot be written ({error.strerror})",
            where=str(models),
            do="Make it writable, or name another one with --folder",
        ) from error
    finally:
        if beside:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _filled(name: str, **values: str) -> str:
    return Template((TEMPLATES / f"{name}.tmpl").read_text(encoding="utf-8")).substitute(values)


def _yaml_text(name: str) -> str:
    """Return a name as YAML reads it back as text: ``123`` and ``on`` only in quotes."""
    import yaml

    # Of digits and '-' YAML makes numbers and dates, also dates that are none.
    plain = name[0].isalpha() and isinstance(yaml.safe_load(name), str)
    return name if plain else f'"{name}"'
