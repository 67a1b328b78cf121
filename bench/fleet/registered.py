"""The lineage that grows with the fleet: a version for each run, and how long the pages' queries take meanwhile."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "lineage"))


class FleetLineage:
    """The lineage of some models, in a database of its own."""

    def __init__(self, url: str, *, times: int) -> None:
        """Open it, or make it.

        :param times: how often each query is asked
        """
        from modelway.lineage.store import open_lineage

        self._store, self._times = open_lineage(url), times

    def register(self, model: str, run: str, number: int, *, large: bool = False) -> None:
        """Register a run: 30 parameters, 40 metrics of 100 steps and 8 files; a small one has 5, 3 of 6 and 8."""
        from ours import record_of
        from workload import make_run

        made = make_run(number) if large else make_run(number, params=5, metrics=3, steps=6)
        record = record_of(replace(made, name=run))
        self._store.register(replace(record, model=model, run=replace(record.run, dag_id=model)))

    def register_all(self, runs: Iterable[tuple[str, str, int]]) -> float:
        """Register small runs; return the CPU seconds of this process."""
        before = time.process_time()
        for model, run, number in runs:
            self.register(model, run, number)
        return time.process_time() - before

    def milliseconds(self, model: str) -> dict[str, float]:
        """Return the least time of each query about a model: on a busy machine the others are of its load."""
        store = self._store
        queries: dict[str, Callable[[], object]] = {
            "the newest version": lambda: store.find(model, "latest"),
            "the list of models": store.models,
            "a whole version": lambda: store.version(model, 1),
            "retrainings requested": lambda: store.monitoring.requests(model),
        }
        return {name: _least(query, self._times) for name, query in queries.items()}


def _least(query: Callable[[], object], count: int) -> float:
    query()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        query()
        times.append(1000 * (time.perf_counter() - began))
    return min(times)
