"""Reads model specs from their folders: every problem of every file at once; a bad spec does not affect the others."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from modelway import folders
from modelway.artifacts.snapshot import MODELS, snapshot_of
from modelway.fields.refusal import Refusal, shown
from modelway.names import nearest
from modelway.spec.check import check_spec
from modelway.spec.collection import paused_collection
from modelway.spec.cycles import Started, cycle_problems, starting
from modelway.spec.endpoint_names import Served, endpoint_problems, endpoints_of
from modelway.spec.files import record_reads
from modelway.spec.layers import ENVIRONMENTS, LayerReader, Layers, places
from modelway.spec.model import ModelSpec
from modelway.spec.parse_cache import ParseCache
from modelway.spec.problems import Problem, display, dotted, invalid_spec, problem_of
from modelway.spec.rules import Rule

FILE_NAME = "model.yaml"


@dataclass(frozen=True, kw_only=True)
class LoadedSpecs:
    """The valid specs by model name, in the order of their names, and the problems of the others."""

    specs: Mapping[str, ModelSpec]
    problems: tuple[Problem, ...]
    sources: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """by model: its ``model.yaml`` and what that extends, nearest first"""
    environments: tuple[str, ...] = ()
    """all environments of the models"""
    unread: int = 0
    """files whose environments cannot be determined"""
    warnings: tuple[Problem, ...] = ()
    """warnings of valid and other specs, which do not make a spec invalid"""


def models_folder() -> Path:
    """Return the folder of the models, see ``modelway.folders``."""
    return folders.models_folder()


def models_beside(dag_file: Path) -> Path:
    """Return the folder of the models for a DAG file: in its own snapshot, or ``models_folder()``."""
    snapshot = snapshot_of(dag_file)
    return models_folder() if snapshot is None else snapshot / MODELS


def load_spec(path: Path, *, environment: str | None = None) -> ModelSpec:
    """Return the spec of one model.

    :param path: the model's folder or its ``model.yaml``
    :param environment: as for ``load_specs``
    :raises InvalidSpec: the message lists every problem of the spec and of the model's Python
    """
    loaded = load_files([_spec_file(path)], environment=environment)
    if loaded.problems:
        raise invalid_spec(loaded.problems)
    return next(iter(loaded.specs.values()))


def load_specs(folder: Path, *, environment: str | None = None, cache: ParseCache | None = None) -> LoadedSpecs:
    """Return all models of a folder of models; never raises for its content.

    Folders without a ``model.yaml`` and hidden ones are skipped.

    :param environment: the environment whose values to use, default ``MODELWAY_ENV``; a model without it has only its
        own values, and an environment that no model has is a problem. An empty text stands for none.
    :param cache: as for ``load_files``
    """
    files, problems = find_specs(folder)
    loaded = load_files(files, environment=environment, cache=cache)
    unknown = unknown_environment(loaded, folder=folder.absolute(), environment=environment)
    return replace(loaded, problems=(*problems, *unknown, *loaded.problems))


def load_files(
    files: Iterable[Path],
    *,
    environment: str | None = None,
    every_environment: bool = False,
    more: Rule | None = None,
    cache: ParseCache | None = None,
) -> LoadedSpecs:
    """Return the specs of the given ``model.yaml`` files; the second of two with the same name is a problem.

    :param environment: as for ``load_specs``
    :param every_environment: check each model without an environment and in each that it has
    :param more: an additional rule, which needs Airflow
    :param cache: what earlier processes read of the models without ``every_environment``, ``more`` and ``environment``
    """
    chosen = chosen_environment(environment)
    reader = LayerReader()
    specs: dict[str, ModelSpec] = {}
    sources: dict[str, tuple[Path, ...]] = {}
    problems: list[Problem] = []
    environments: set[str] = set()
    started: dict[str, Mapping[str | None, Started | None]] = {}
    served: dict[str, Mapping[str | None, Served | None]] = {}
    unread = 0
    with paused_collection():
        reads = [
            (file, _cached(file, reader, cache, chosen=chosen, every=every_environment, more=more))
            for file in dict.fromkeys(file.absolute() for file in files)
        ]
    for file, read in reads:
        problems += read.problems
        environments.update(read.environments)
        unread += read.is_unread
        if read.spec is None:
            continue
        if first := specs.get(read.spec.model):
            what = f"'{read.spec.model}' is already the model of {display(first.folder / FILE_NAME)}"
            problems.append(Problem(file=file, where="model", what=what, do="Rename one of the two, with its folder"))
            continue
        specs[read.spec.model], sources[read.spec.model] = read.spec, read.files
        started[read.spec.model], served[read.spec.model] = read.started, read.served
    for found in (cycle_problems(started), endpoint_problems(served)):
        for model, problem in found.items():
            problems.append(problem)
            specs.pop(model, None)
    return LoadedSpecs(
        specs=MappingProxyType(dict(sorted(specs.items()))),
        # A problem of a file that many extend is reported once.
        problems=tuple(one for one in dict.fromkeys(problems) if one.severity == "error"),
        warnings=tuple(one for one in dict.fromkeys(problems) if one.severity == "warning"),
        sources=MappingProxyType(sources),
        environments=tuple(sorted(environments)),
        unread=unread,
    )


def chosen_environment(environment: str | None) -> str | None:
    """Return the given environment, else that of ``MODELWAY_ENV``, else None; an empty text stands for none."""
    return (os.environ.get("MODELWAY_ENV", "") if environment is None else environment) or None


def unknown_environment(loaded: LoadedSpecs, *, folder: Path, environment: str | None) -> tuple[Problem, ...]:
    """Return the problem of an environment that no model of a folder has."""
    chosen = chosen_environment(environment)
    if chosen is None or chosen in loaded.environments or loaded.unread:
        return ()
    what = f"{shown(chosen)} is an environment of no model here"
    known = loaded.environments
    suggestion = nearest(chosen, known)
    by = "Unset MODELWAY_ENV" if environment is None else "Name another"
    do = f"{by}, or write it under environments of a model"
    return (Problem(file=folder, what=what, known=known, suggestion=suggestion, do=do),)


def find_specs(folder: Path) -> tuple[tuple[Path, ...], tuple[Problem, ...]]:
    """Return the sorted ``model.yaml`` files of a folder of models, and the problems of finding them."""
    folder = folder.absolute()
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        what = f"the folder of the models cannot be read: {(error.strerror or str(error)).lower()}"
        return (), (
            Problem(file=folder, what=what, do="Make it with modelway init, or set MODELWAY_MODELS to the right one"),
        )
    files: list[Path] = []
    problems: list[Problem] = []
    for name in names:
        file = folder / name / FILE_NAME
        if name.startswith(".") or name == "__pycache__":
            continue
        if is_there(file):
            files.append(file)
        else:
            problems += misnamed(file)
    return tuple(files), tuple(problems)


def misnamed(file: Path) -> tuple[Problem, ...]:
    """Return the problem of a ``model.yml`` in place of a ``model.yaml``."""
    if not os.path.exists(other := file.with_suffix(".yml")):
        return ()
    return (Problem(file=other, what="this file is not read", do=f"Rename it to {FILE_NAME}"),)


def is_there(file: Path) -> bool:
    """Return whether the file exists, or that cannot be determined: reading it then says why."""
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


@dataclass(frozen=True, kw_only=True)
class _Read:
    spec: ModelSpec | None
    problems: tuple[Problem, ...]
    files: tuple[Path, ...] = ()
    environments: tuple[str, ...] = ()
    started: Mapping[str | None, Started | None] = field(default_factory=dict)
    """by checked environment; None stands for the chosen one"""
    served: Mapping[str | None, Served | None] = field(default_factory=dict)
    """the same"""
    is_unread: bool = False


def _cached(
    file: Path, reader: LayerReader, cache: ParseCache | None, *, chosen: str | None, every: bool, more: Rule | None
) -> _Read:
    """Return what ``_read`` returns, from the cache where the file and all others that were read did not change."""
    if cache is None or every or more is not None or chosen != chosen_environment(None):
        return _read(file, reader, chosen=chosen, every=every, more=more)
    found = cache.load(file, "spec")
    if isinstance(found, _Read):
        return found
    with record_reads() as reads:
        read = _read(file, reader, chosen=chosen, every=every, more=more)
    reader.digests.update(reads.digests)
    # A file that several models extend is read once.
    sources = {each: reader.digests.get(each, b"") for each in (*reads.digests, *read.files)}
    # Problems have more causes than the content of files.
    if reads.is_all and all(sources.values()) and not read.problems:
        cache.store(file, "spec", read, sources=sources)
    return read


def _read(file: Path, reader: LayerReader, *, chosen: str | None, every: bool, more: Rule | None) -> _Read:
    """Return the spec of a file, or None and its problems; any failure is a problem of this file only."""
    try:
        return _read_layers(file, reader.read(file), chosen=chosen, every=every, more=more)
    except Refusal as refusal:
        return _Read(spec=None, problems=(problem_of(refusal, file=file),), is_unread=True)
    # Also RecursionError and MemoryError: authors can write anything, and one model must not stop the others.
    except Exception as error:
        what = f"the spec or the Python beside it cannot be checked ({type(error).__name__}: {str(error)[:200]})"
        do = "Write it plainer: nested less deep, or in smaller files"
        return _Read(spec=None, problems=(Problem(file=file, what=what, do=do),), is_unread=True)


def _read_layers(file: Path, layers: Layers, *, chosen: str | None, every: bool, more: Rule | None) -> _Read:
    """Return the spec of a file, or None and its problems in the order of the file."""
    if layers.root is None:
        return _Read(spec=None, problems=layers.problems, is_unread=True)
    here = chosen if chosen in layers.environments else None
    spec, found = _checked(layers, file, here, more)
    started: dict[str | None, Started | None] = {None: _started(layers, spec, here)}
    served: dict[str | None, Served | None] = {None: _served(layers, spec, here)}
    if every and chosen is None:
        for environment in layers.environments:
            other, there = _checked(layers, file, environment, more)
            started[environment] = _started(layers, other, environment)
            served[environment] = _served(layers, other, environment)
            found += _only_there(there, known=found, environment=environment)
    # A YAML problem is reported once: a value that was refused there is not refused again for its type.
    places = {(one.file, one.line, one.column, one.where) for one in layers.problems}
    found = [one for one in found if (one.file, one.line, one.column, one.where) not in places]
    problems = dict.fromkeys((*layers.problems, *found))
    in_order = sorted(
        problems, key=lambda one: (one.file != file, str(one.file), one.line or 0, one.column or 0, one.where)
    )
    return _Read(
        spec=None if any(one.severity == "error" for one in problems) else spec,
        started=started,
        served=served,
        problems=tuple(in_order),
        files=layers.files,
        environments=tuple(layers.environments),
    )


def _started(layers: Layers, spec: ModelSpec | None, environment: str | None) -> Started | None:
    models = starting(spec) if spec else ()
    return Started(models, layers.at(environment).place(("schedule", "assets"))) if models else None


def _served(layers: Layers, spec: ModelSpec | None, environment: str | None) -> Served | None:
    if spec is None:
        return None
    return Served(endpoints_of(spec), layers.at(environment).place(("endpoint", "environments")))


def _checked(
    layers: Layers, file: Path, environment: str | None, more: Rule | None
) -> tuple[ModelSpec | None, list[Problem]]:
    """Check a file's values in an environment; problems of the overlay's values have the keys as written there."""
    spec, problems = check_spec(layers.at(environment), file=file, environment=environment, more=more)
    if environment is None or not problems:
        return spec, list(problems)
    overlay = places(layers.environments[environment])
    above = dotted((ENVIRONMENTS, environment))
    return spec, [
        replace(one, where=f"{above}.{one.where}") if (one.file, one.line, one.column) in overlay else one
        for one in problems
    ]


def _only_there(problems: Iterable[Problem], *, known: Iterable[Problem], environment: str) -> list[Problem]:
    """Return the problems that an environment adds, marked with it where their place is outside of its overlay."""
    known = set(known)
    above = dotted((ENVIRONMENTS, environment))
    return [
        one if one.where.startswith(above) else replace(one, what=f"in the environment {environment}, {one.what}")
        for one in problems
        if one not in known
    ]
