"""``python -m tests.suite.pytest_process …``: pytest, in a process that ends without freeing what tests imported."""

import sys

from tests.suite.steps import ROOT

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "plugins"))
    from modelway.platforms.processes.ending import Ending

    def main() -> None:
        import pytest

        sys.exit(pytest.main())

    Ending().run(main)
