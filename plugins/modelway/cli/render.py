"""``modelway render`` and ``modelway schema``: a model's effective spec, and the keys that a spec may have."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from modelway.cli.lint import printable, unknown_to_all
from modelway.errors import UnknownModel


def add_commands(subparsers: Any) -> None:
    """Add ``render`` and ``schema`` to the command line."""
    render = subparsers.add_parser(
        "render",
        help="print a model's spec in full",
        description="Print the values that apply to a model, as YAML: those of the files that it extends, of the "
        "environment and the defaults included; or with --backend what its jobs are there. "
        "Exit status: 0 printed, 1 the spec has problems.",
    )
    render.add_argument("model", metavar="MODEL", help="a model's name, its folder or its model.yaml")
    render.add_argument("--env", metavar="NAME", help="the environment (default: MODELWAY_ENV, else none)")
    render.add_argument(
        "--backend", choices=("kubernetes", "vertex"), help="print what would be sent there for a run's jobs"
    )
    render.add_argument("--server", metavar="VERSION", help="Kubernetes' version (default: the cluster's that answers)")
    render.add_argument("--run", dest="run_id", metavar="RUN", help="the run's id (default: an example)")
    render.set_defaults(run=print_spec)
    schema = subparsers.add_parser(
        "schema",
        help="print all keys of model.yaml",
        description="Print the JSON schema of model.yaml, for editors, or all its keys as a page for people.",
    )
    schema.add_argument("--format", choices=("json", "markdown"), default="json", help="default: %(default)s")
    schema.set_defaults(run=print_schema)


def print_spec(args: argparse.Namespace) -> int:
    """Print a model's effective spec, or its jobs' manifests, and return the exit status.

    :raises UnknownModel: there is no such model
    :raises CapabilityMissing: the spec requires what the backend cannot provide
    """
    from modelway.spec.document.write import write_document
    from modelway.spec.load import FILE_NAME, chosen_environment, load_files
    from modelway.spec.problems import display, render

    file = _spec_file(args.model, FILE_NAME)
    loaded = load_files([file], environment=args.env)
    if problems := loaded.problems or unknown_to_all(loaded, [file], args.env):
        print(printable(render(problems)))
        return 1
    (spec,) = loaded.specs.values()
    if args.backend:
        from modelway.cli._manifests import manifests_text

        sys.stdout.write(manifests_text(spec, backend=args.backend, run=args.run_id, server=args.server))
        return 0
    comments = [f"from {' over '.join(display(source) for source in loaded.sources[spec.model])}"]
    if chosen := chosen_environment(args.env):
        of_it = "" if spec.environment else f", of which {spec.model} has no values of its own"
        comments.append(f"environment {chosen}{of_it}")
    comments.append(spec.digest)
    print("".join(f"# {printable(comment)}\n" for comment in comments), end="")
    print(write_document(spec.to_dict(), encoding=sys.stdout.encoding or "utf-8"), end="")
    return 0


def print_schema(args: argparse.Namespace) -> int:
    """Print all keys, for editors or for people."""
    if args.format == "markdown":
        from modelway.spec.reference import reference_text

        sys.stdout.write(reference_text())
        return 0
    from modelway.spec.schema import schema_text

    sys.stdout.write(schema_text())
    return 0


def _spec_file(model: str, file_name: str) -> Path:
    from modelway.spec.load import find_specs, is_there, models_folder

    if os.sep in model or model in (".", file_name):
        path = Path(model).absolute()
        file = path if path.name == file_name and not os.path.isdir(path) else path / file_name
        if not is_there(file):
            raise UnknownModel(f"there is no {file_name}", where=str(file.parent))
        return file
    file = models_folder() / model / file_name
    if not is_there(file):
        known = [one.parent.name for one in find_specs(models_folder())[0]]
        raise UnknownModel(f"there is no model '{model}'", where=str(models_folder()), known=known, given=model)
    return file
