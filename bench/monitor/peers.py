"""What others alarm at on the same traffic, a day at a time beside the first 1,000 rows; run in their own environment.

``python peers.py FOLDER``: FOLDER has one file a case: ``reference`` [models, 1000, 7] and ``days`` [models, days,
rows, 7]. Each peer sees all of it. Prints JSON: by peer and case, for each model, the days with an alarm. Packages:
scipy; river and evidently (with pandas < 3) where installed.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import stats


def plain_ks(reference, days):
    """A column with p < 0.05 on a day is an alarm."""
    columns = range(reference.shape[1])
    return [
        at
        for at, rows in enumerate(days)
        if any(stats.ks_2samp(reference[:, each], rows[:, each], method="asymp").pvalue < 0.05 for each in columns)
    ]


class _Statistics:
    """scipy's test of two samples of one size, each value of it computed once: it depends on D alone.

    A detector makes one test a value, which takes scipy 0.65 ms: 4.5 s for a day of seven columns.
    """

    def __init__(self):
        self._known = {}

    def ks_2samp(self, one, other, method):
        one, other = np.sort(one), np.sort(other)
        both = np.concatenate([one, other])
        steps = int(np.abs(one.searchsorted(both, "right") - other.searchsorted(both, "right")).max())
        if steps not in self._known:
            self._known[steps] = stats.ks_2samp(one, other, method=method)
        return self._known[steps]


def _check_statistics():
    random, own = np.random.default_rng(1), _Statistics()
    for at in range(300):
        one, other = random.normal(0, 1, 30), random.normal(at % 4, 1, 30)
        if at % 2:
            one, other = one.round(), other.round()
        assert tuple(own.ks_2samp(one, other, method="auto")) == tuple(stats.ks_2samp(one, other, method="auto"))


def kswin(reference, days):
    """One detector a column with its defaults, on every row in turn."""
    from river.drift import KSWIN
    from river.drift import kswin as module

    _check_statistics()
    module.stats = _Statistics()
    detectors = [KSWIN(seed=1) for _ in range(reference.shape[1])]
    found = []
    for at, rows in enumerate(days):
        alarms = 0
        for row in rows:
            for detector, value in zip(detectors, row, strict=True):
                detector.update(float(value))
                alarms += detector.drift_detected
        found += [at] * bool(alarms)
    return found


def evidently(reference, days):
    """DataDriftPreset with its defaults: half of the columns drift."""
    return [at for at, share in enumerate(_drifted(reference, days)) if share >= 0.5]


def evidently_any(reference, days):
    """The same report, where a single column that drifts is an alarm."""
    return [at for at, share in enumerate(_drifted(reference, days)) if share > 0]


def _drifted(reference, days):
    """Return the share of columns that drift by the defaults, day by day."""
    key = (reference.tobytes(), days.tobytes())
    if key not in _REPORTS:
        _REPORTS[key] = [_report(reference, rows) for rows in days]
    return _REPORTS[key]


_REPORTS: dict[tuple[bytes, bytes], list[float]] = {}


def _report(reference, rows):
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [str(each) for each in range(reference.shape[1])]
    before, now = (pandas.DataFrame(each, columns=names) for each in (reference, rows))
    report = Report([DataDriftPreset()]).run(now, before)
    counts = next(each for each in report.dict()["metrics"] if "DriftedColumnsCount" in each["metric_name"])
    return float(counts["value"]["share"])


PEERS = {
    "plain KS, p < 0.05": plain_ks,
    "evidently, half of the columns": evidently,
    "evidently, any column": evidently_any,
    "river KSWIN": kswin,
}


def main():
    """Run all that are installed."""
    result = {name: {} for name in PEERS}
    for file in sorted(Path(sys.argv[1]).glob("*.npz")):
        with np.load(file) as case:
            references, days = case["reference"], case["days"]
        for name, peer in PEERS.items():
            if "missing" in result[name]:
                continue
            began = time.process_time()
            try:
                result[name][file.stem] = [peer(*each) for each in zip(references, days, strict=True)]
            except ImportError as error:
                result[name] = {"missing": str(error)}
            print(f"{file.stem}, {name}: {time.process_time() - began:.0f} s", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
