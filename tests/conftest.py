"""What all tests share. On CI a skipped test is a failure: every service that a test wants can be started there."""

import gc
import os

import pytest
from _pytest.unraisableexception import gc_collect_iterations_key

# The threads of NumPy and torch wait in a loop for one another: on cores that other tests use, a training of small
# matrices takes five times the time of the processor with two of them. Jobs have this from `cpu`.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# While tests are collected they import Airflow and more: hundreds of thousands of objects that stay.
gc.disable()
gc.set_threshold(50_000, 20, 50)

pytest_plugins = [
    "tests.contract.lineage_databases",
    "tests.lineage_template",
    "tests.page_fixtures",
    "tests.suite.durations",
]


def pytest_collection_finish() -> None:
    """Spare the collector what the imports made: each of its full rounds would go over millions of objects again."""
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    # The five rounds at the end, each over all objects, are for another Python: here one finds all garbage.
    config.stash[gc_collect_iterations_key] = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if os.environ.get("CI") == "true" and skipped:
        tests = ", ".join(sorted({each.nodeid for each in skipped}))
        terminalreporter.write_line(f"tests that were skipped, on CI none may be: {tests}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Of the files that a change reaches, none may have a test of this step.
    if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and os.environ.get("MODELWAY_SUITE_PARTIAL"):
        session.exitstatus = pytest.ExitCode.OK
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
