"""The builds that are compared: this working tree, and an earlier commit in a folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from command import Measured, measure

REPOSITORY = Path(__file__).resolve().parents[2]
#: what of the caller's environment would change the figures: its Airflow, and that Python keeps nothing it compiled
LEFT_OUT = ("AIRFLOW", "_AIRFLOW", "MODELWAY", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
MAIN = "import sys; from modelway.cli import main; sys.exit(main())"
NEW = """
import sys
from modelway.cli import main
for name in sys.argv[2:]:
    if status := main(["new", name, "--folder", sys.argv[1]]):
        sys.exit(status)
"""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A tree of the product's source with folders for what it writes."""

    name: str
    source: Path
    scratch: Path

    def write_models(self, count: int) -> Path:
        """Write models as ``modelway new`` does; return their folder."""
        folder = self.scratch / f"models-{count}"
        folder.mkdir(parents=True)
        names = [f"model-{number:04d}" for number in range(count)]
        words = [sys.executable, "-c", NEW, str(folder), *names]
        subprocess.run(words, env=self.environment(folder), check=True, stdout=subprocess.DEVNULL)
        return folder

    def environment(self, models: Path, home: Path | None = None) -> dict[str, str]:
        """Return the variables of a command of this build."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
        return {
            **kept,
            "PYTHONPATH": str(self.source / "plugins"),
            "PYTHONHASHSEED": "0",
            "MODELWAY_MODELS": str(models),
            "MODELWAY_HOME": str(home or self.scratch / "home"),
            "DO_NOT_TRACK": "1",
        }

    def command(self, *words: str, models: Path) -> Measured:
        """Run a ``modelway`` command that starts nothing."""
        return measure([sys.executable, "-c", MAIN, *words], environment=self.environment(models), folder=models)

    def run_model(self, models: Path, model: str, *, home: Path) -> Measured:
        """Take a model to its registered and served version.

        :raises SystemExit: there is no version 1, or no endpoint of it
        """
        variables = self.environment(models, home)

        def read(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", MAIN, *words], env=variables, stdin=subprocess.DEVNULL, capture_output=True
            )
            return done.stdout.decode()

        def check_and_stop() -> None:
            versions = json.loads(read("versions", model, "--json") or "[]")
            served = read("endpoint", "list")
            # Not counted: the endpoint would serve until the machine ends.
            read("endpoint", "stop", model)
            if len(versions) != 1 or model not in served:
                raise SystemExit(
                    f"modelway run of {self.name} left the versions {versions} and the endpoints {served!r}"
                )

        words = [sys.executable, "-c", MAIN, "run", model]
        return measure(words, environment=variables, folder=models, afterwards=check_and_stop)


@contextmanager
def earlier_source(commit: str, scratch: Path) -> Iterator[Path]:
    """Give the files of an earlier commit, as a worktree that is taken away afterwards.

    :raises SystemExit: this repository does not have the commit
    """
    folder = scratch / "earlier"
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    done = subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the earlier build {commit} cannot be made: {done.stderr.strip()}. Name another with --base")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=False, capture_output=True)
