"""``modelway init``: the DAG files and a first model, in the folders of a deployment that is there."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from modelway.errors import NotWritable

FIRST_MODEL = "circles"


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "init",
        help="write the DAG files and a first model into an Airflow's own folders",
        description="Write dags/models.py, dags/model_specs.py, dags/monitor.py and a first model into the folders of "
        "an Airflow that is there. Nothing is overwritten.",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help=f"the first model's name (default: {FIRST_MODEL}, where there is no model yet)",
    )
    parser.add_argument("--dags", type=Path, metavar="PATH", help="the folder of DAG files (default: Airflow's own)")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="PATH",
        help="the folder of the models (default: MODELWAY_MODELS, [modelway] models, or include/models beside dags)",
    )
    parser.set_defaults(run=init)


def init(args: argparse.Namespace) -> int:
    """Write what is missing, say what was there, and what to do next.

    :raises ModelwayError: the name cannot be a model's, or something of that name is there
    :raises NotWritable: a folder cannot be written
    """
    from modelway.cli.new import check_name, model_files, write_model
    from modelway.folders import airflow_option, dags_folder, models_folder
    from modelway.localairflow.dag_files import dag_files, repository
    from modelway.spec.load import find_specs
    from modelway.spec.problems import display
    from modelway.spec.schema import schema_text

    clone = None if airflow_option("core", "dags_folder") else repository()
    dags = (args.dags or (clone / "dags" if clone else dags_folder())).absolute()
    models = args.models.absolute() if args.models else _models_of(args.dags, dags)
    if args.name:
        check_name(args.name)
    for name, text in dag_files().items():
        _write(dags / name, text)
    _write(models / "schema.json", schema_text())
    name = args.name or FIRST_MODEL
    if args.name or not find_specs(models)[0]:
        folder = write_model(models / name, files := model_files(name, with_schema=True))
        for file in files:
            print(f"wrote {display(folder / file)}")
    else:
        name = find_specs(models)[0][0].parent.name
        print(f"left {display(models)} as it is: there are models in it")
    setting = ""
    if models != models_folder():
        setting = f"MODELWAY_MODELS={shlex.quote(str(models))} "
        print("Let every component of Airflow find the models, by one of the two:")
        print(f"  MODELWAY_MODELS={shlex.quote(str(models))}    in its environment")
        print(f"  [modelway] models = {models}    in airflow.cfg")
    print("Check the models, then train, register and serve one here, or trigger its DAG in Airflow:")
    print(f"  modelway lint {shlex.quote(display(models))}")
    print(f"  {setting}modelway run {name}")
    return 0


def _models_of(given_dags: Path | None, dags: Path) -> Path:
    """Return the folder of the models that belongs to a folder of DAG files."""
    from modelway.folders import models_folder

    return models_folder() if given_dags is None else dags.parent / "include" / "models"


def _write(path: Path, text: str) -> None:
    """Write a file unless there is one.

    :raises NotWritable: it cannot be written
    """
    from modelway.spec.problems import display

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        print(f"wrote {display(path)}")
    except FileExistsError:
        try:
            is_same = path.read_text(encoding="utf-8") == text
        except (OSError, UnicodeError):
            is_same = False
        print(f"left {display(path)} as it is{'' if is_same else ': it has another content than ours'}")
    except OSError as error:
        raise NotWritable(
            f"the file cannot be written ({(error.strerror or str(error)).lower()})",
            where=str(path),
            do="Make its folder writable, or name another one with --dags and --models",
        ) from error
