"""``modelway reproduce MODEL VERSION``: run a version again from its record, and compare."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelway.cli._lineage import add_version, read_lineage, read_version
from modelway.cli.output.tables import print_json
from modelway.cli.reproduction.this_machine import places
from modelway.errors import ModelwayError, NotWritable

if TYPE_CHECKING:
    from modelway.cli.reproduction.preparation import Reproduction
    from modelway.lineage.records.version import VersionDetail

_MODELWAY = "import sys; from modelway.cli import main; sys.exit(main())"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``reproduce`` to the command line."""
    reproduce = subparsers.add_parser(
        "reproduce",
        help="run a version again from its record, and say whether the same comes out",
        description="Run a version again here, in a home of its own: its code, model spec, seed, parameters and data "
        "as recorded; nothing is served. Exit status: 0 the frozen model is the same byte for byte, 1 it is not, or it "
        "cannot be run again.",
    )
    add_version(reproduce)
    reproduce.add_argument("--keep", metavar="FOLDER", help="leave the home of the run there; default: it is removed")
    reproduce.add_argument("--json", action="store_true", help="print JSON; what the run prints goes to stderr")
    reproduce.set_defaults(run=reproduce_version)


def reproduce_version(args: argparse.Namespace) -> int:
    """Run the version again and print what differs.

    :raises UnknownModel: nothing was ever registered for the model
    :raises UnknownVersion: the model has no such version or alias
    :raises ModelwayError: it cannot be run again
    """
    from modelway.cli.reproduction.preparation import prepare
    from modelway.hooks.settings import load_settings
    from modelway.lineage.compare.difference import difference
    from modelway.lineage.store import open_lineage

    store = read_lineage()
    model, wanted = read_version(args.version)
    recorded = store.version(model, store.find(model, wanted))
    base = store.version(model, recorded.base) if recorded.base is not None else None
    with _home(args.keep) as home:
        plan = prepare(recorded, base, settings=load_settings(), home=home)
        command = [sys.executable, "-P", "-c", _MODELWAY, "run", *plan.arguments]
        # Only the result goes to stdout.
        done = subprocess.run(command, env=dict(plan.environment), stdout=sys.stderr)
        if done.returncode:
            raise ModelwayError(
                "the run failed, see above", where=str(home), do="Its home stays with --keep FOLDER, logs and all"
            )
        made = open_lineage(plan.lineage_url, read_only=True)
        assert made is not None  # the run registered its version
        again = made.version(model, made.find(model, "latest"))
    found = difference(recorded, again)
    # The rest of the archive describes the run, too: its durations are never the same.
    is_same = found.is_same_model
    if args.json:
        sides = {"recorded": recorded.summary, "again": again.summary, "difference": found}
        elsewhere = (*plan.lacking, *places(recorded, again, found))
        print_json({"reproduced": is_same, **sides, "unchecked": plan.unchecked, "elsewhere": elsewhere})
    else:
        print_outcome(recorded, again, plan=plan)
    return 0 if is_same else 1


def print_outcome(recorded: "VersionDetail", again: "VersionDetail", *, plan: "Reproduction") -> None:
    """Print whether the result is the same and, if not, what differs and what else was different."""
    from modelway.cli.diff import lines_of, print_metrics
    from modelway.cli.lint import printable
    from modelway.lineage.compare.difference import difference

    found = difference(recorded, again)
    name = f"{recorded.summary.model} v{recorded.summary.number}"
    if found.is_same_model:
        print(f"{name}: reproduced, byte for byte")
        print(f"  model  {again.summary.model_digest}")
        for line in (
            *(f"besides the frozen model, {file.path} differs" for file in found.files),
            *plan.unchecked,
        ):
            print(printable(f"  {line}"))
        return
    print(f"{name}: not reproduced; what was recorded, and what came out now:")
    for what in ("checkpoint", "checkpoint_digest", "model_digest", "archive_digest"):
        before, now = getattr(recorded.summary, what), getattr(again.summary, what)
        print(printable(f"  {what.replace('_', ' '):<17}  {'same' if before == now else f'{before} → {now}'}"))
    if elsewhere := (*plan.lacking, *places(recorded, again, found)):
        print("  This machine is not the place where it was made, which alone can change the bytes:")
    for line in (*elsewhere, *plan.unchecked):
        print(printable(f"  ! {line}"))
    # When and from which clone it ran has no effect on the result.
    code = replace(found.code, commits=(None, None), dirty=(None, None), commit_range=None)
    run = {what: sides for what, sides in found.run.items() if what not in ("seconds", "gpu_seconds", "inputs_digest")}
    for line in lines_of(replace(found, code=code, run=run)):
        print(printable(line))
    print_metrics(found, names=("recorded", "now"))


@contextmanager
def _home(keep: str | None) -> Iterator[Path]:
    """Yield an empty folder, which is removed unless ``keep`` names it."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="modelway-reproduce-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    from modelway.hooks.settings import make_private

    home = Path(keep).absolute()
    try:
        make_private(home)
        home.mkdir(parents=True, exist_ok=True)
        if any(home.iterdir()):
            raise ModelwayError("the folder is not empty", where=str(home), do="Name a new one with --keep")
    except OSError as error:
        raise NotWritable(f"the folder cannot be made ({error.strerror})", where=str(home)) from error
    yield home
