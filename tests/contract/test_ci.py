"""On CI no test may be skipped, and everything asks in the same way whether it runs there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("variables", "status"), [({"CI": "true"}, 1), ({}, 0), ({"CI": ""}, 0)])
def test_a_skipped_test_fails_on_ci_alone(tmp_path, variables, status):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('no service')\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | variables
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout


def test_ci_says_what_the_tests_ask_for():
    assert "\nexport CI=true\n" in (ROOT / ".ci" / "run").read_text()
    asked = re.compile(r"""environ(?:\.get\(|\[)"CI"[\])](.{0,10})""")
    for path in (ROOT / "tests").rglob("*.py"):
        for comparison in asked.findall(path.read_text()):
            assert comparison.startswith((' == "true"', ' != "true"')), path
