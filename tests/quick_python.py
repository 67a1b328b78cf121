"""``python tests/quick_python.py CODE …``: does what ``python -c CODE …`` does, and ends without freeing its imports.

Of 5 CPU seconds in which a process imports Airflow and ends, 2 are for its garbage and its end.
"""

import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).resolve()
#: loaded by its place: what the code imports of modelway it has to find by itself
ENDING = FILE.parents[1] / "plugins" / "modelway" / "platforms" / "processes" / "ending.py"
#: what stands in a command in place of ``python -c``
COMMAND = (sys.executable, str(FILE))


def main() -> None:
    """Run the code in the first word; it sees the others."""
    spec = importlib.util.spec_from_file_location("ending", ENDING)
    assert spec is not None
    assert spec.loader is not None
    ending = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ending)
    code = compile(sys.argv[1], "<string>", "exec")
    sys.argv[:2], sys.path[0] = ["-c"], ""
    ending.Ending().run(lambda: exec(code, {"__name__": "__main__"}))


if __name__ == "__main__":
    main()
