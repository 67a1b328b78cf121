"""``freeze_all.py MODULE.py FOLDER FORMAT…``: freeze each kind of a module into each format, in one process.

Writes ``FOLDER/<format>/<number>/`` as a freeze job does, or ``FOLDER/<format>/<number>.refused`` with the reason; then
serves what torch has to run, since torch is loaded here, and writes the largest differences to ``FOLDER/served.json``.
"""

import importlib.util
import json
import sys
from pathlib import Path

from modelway.job.freezing.exported import Exported
from modelway.job.freezing.freeze import freeze

from tests.zoo.serve import served_difference


def main(module: Path, folder: Path, formats: list[str]) -> None:
    spec = importlib.util.spec_from_file_location("kinds", module)
    kinds = importlib.util.module_from_spec(spec)
    sys.modules["kinds"] = kinds
    spec.loader.exec_module(kinds)
    served = {}
    for format in formats:
        for number, exported in enumerate(kinds.kinds().values()):
            if exported is None:
                continue
            to = folder / format / str(number)
            try:
                freeze(
                    exported=Exported.of(exported), name="zoo", seed=3, folder=to, format=format, venvs=folder / "venvs"
                )
            except Exception as error:
                to.with_suffix(".refused").write_text(f"{type(error).__name__}: {error}")
                continue
            if format == "torch_export":
                served[number] = served_difference(to)
    (folder / "served.json").write_text(json.dumps(served))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
