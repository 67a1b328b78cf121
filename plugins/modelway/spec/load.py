"""Reading model specs from their folders: every problem of every file at once, one bad spec leaves the others alone."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from modelway.spec.check import check_spec
from modelway.spec.document import read_document
from modelway.spec.files import read_text
from modelway.spec.model import ModelSpec
from modelway.spec.problems import Problem, Refusal, display, invalid_spec

FILE_NAME = "model.yaml"


@dataclass(frozen=True, kw_only=True)
class LoadedSpecs:
    """The good specs by model name, in order of their names, and the problems of the others."""

    specs: Mapping[str, ModelSpec]
    problems: tuple[Problem, ...]


def models_folder() -> Path:
    """Return the folder of the models: ``MODELWAY_MODELS``, or ``include/models`` beside ``plugins/``."""
    if named := os.environ.get("MODELWAY_MODELS"):
        return Path(named).absolute()
    return Path(__file__).resolve().parents[3] / "include" / "models"


def load_spec(path: Path) -> ModelSpec:
    """Return the spec of one model.

    :param path: the model's folder or its ``model.yaml``
    :raises InvalidSpec: the message lists every problem of the spec and of the model's Python
    """
    spec, problems = _read(_spec_file(path))
    if spec is None:
        raise invalid_spec(problems)
    return spec


def load_specs(folder: Path) -> LoadedSpecs:
    """Return all models of a folder of models; never raises for what is in it.

    Folders without a ``model.yaml`` and hidden ones are passed over.
    """
    files, problems = find_specs(folder)
    loaded = load_files(files)
    return LoadedSpecs(specs=loaded.specs, problems=(*problems, *loaded.problems))


def load_files(files: Iterable[Path]) -> LoadedSpecs:
    """Return the specs of the given ``model.yaml`` files; of two with one name the second is a problem."""
    specs: dict[str, ModelSpec] = {}
    problems: list[Problem] = []
    for file in dict.fromkeys(file.absolute() for file in files):
        spec, found = _read(file)
        problems += found
        if spec is None:
            continue
        if first := specs.get(spec.model):
            what = f"'{spec.model}' is already the model of {display(first.folder / FILE_NAME)}"
            problems.append(Problem(file=file, where="model", what=what, do="Rename one of the two, with its folder"))
            continue
        specs[spec.model] = spec
    return LoadedSpecs(specs=MappingProxyType(dict(sorted(specs.items()))), problems=tuple(problems))


def find_specs(folder: Path) -> tuple[tuple[Path, ...], tuple[Problem, ...]]:
    """Return the ``model.yaml`` files of a folder of models, sorted, and what stops them from being found."""
    folder = folder.absolute()
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        what = f"the folder of the models cannot be read: {(error.strerror or str(error)).lower()}"
        return (), (Problem(file=folder, what=what, do="Create it, or set MODELWAY_MODELS to the right one"),)
    files: list[Path] = []
    problems: list[Problem] = []
    for name in names:
        file = folder / name / FILE_NAME
        if name.startswith(".") or name == "__pycache__":
            continue
        if _is_there(file):
            files.append(file)
        elif os.path.exists(other := file.with_suffix(".yml")):
            problems.append(Problem(file=other, what="this file is not read", do=f"Rename it to {FILE_NAME}"))
    return tuple(files), tuple(problems)


def _is_there(file: Path) -> bool:
    """Return whether there is such a file, or none can be told: reading it then says why."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _spec_file(path: Path) -> Path:
    path = path.absolute()
    return path if path.name == FILE_NAME and not path.is_dir() else path / FILE_NAME


def _read(file: Path) -> tuple[ModelSpec | None, tuple[Problem, ...]]:
    """Return the spec of a file, or None and its problems in the order of the file."""
    try:
        text = read_text(file)
    except Refusal as refusal:
        return None, (refusal.problem(file=file),)
    root, problems = read_document(text, file=file)
    if root is None:
        return None, problems
    # What is wrong as YAML is said once: a value that was refused there is not refused again for its type.
    places = {(problem.line, problem.column, problem.where) for problem in problems}
    spec, more = check_spec(root, file=file)
    more = tuple(one for one in more if one.file != file or (one.line, one.column, one.where) not in places)
    found = (*problems, *more)
    in_order = sorted(found, key=lambda one: (one.file != file, one.line or 0, one.column or 0, one.where))
    return (None if found else spec), tuple(in_order)
