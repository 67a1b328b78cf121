"""What others alarm at on the same traffic, a day at a time beside the first 1,000 rows; run in their own environment.

``python peers.py FOLDER``: FOLDER has one file a case: ``reference`` [models, 1000, 7] and ``days`` [models, days,
rows, 7]. Prints JSON: by peer and case which days, and for each model those with an alarm. Packages: scipy; river and
evidently (with pandas < 3) where installed.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

#: of so many rows KSWIN sees one: it takes 0.65 ms a value
KSWIN_EACH = 10


def plain_ks(reference, days):
    """A column with p < 0.05 on a day is an alarm."""
    columns = range(reference.shape[1])
    return [
        at
        for at, rows in enumerate(days)
        if any(stats.ks_2samp(reference[:, each], rows[:, each], method="asymp").pvalue < 0.05 for each in columns)
    ]


def kswin(reference, days):
    """One detector a column with its defaults, on every tenth row in turn."""
    from river.drift import KSWIN

    detectors = [KSWIN(seed=1) for _ in range(reference.shape[1])]
    found = []
    for at, rows in enumerate(days):
        alarms = 0
        for row in rows[::KSWIN_EACH]:
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
        _REPORTS.clear()
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


#: each with the models that it sees at most, the first day, and the one after the last: a day takes evidently 0.6 s of
#: CPU, and KSWIN 0.4 s
PEERS = {
    "plain KS, p < 0.05": (plain_ks, 2, 0, 1000),
    "evidently, half of the columns": (evidently, 1, 44, 66),
    "evidently, any column": (evidently_any, 1, 44, 66),
    "river KSWIN, each tenth row": (kswin, 1, 44, 66),
}


def main():
    """Run all that are installed."""
    result = {}
    cases = sorted(Path(sys.argv[1]).glob("*.npz"))
    for name in PEERS:
        result[name] = {}
    for file in cases:
        with np.load(file) as case:
            references, days = case["reference"], case["days"]
        for name, (peer, models, first, end) in PEERS.items():
            if "missing" in result[name]:
                continue
            seen = days[:models, first:end]
            try:
                found = [peer(*each) for each in zip(references, seen, strict=False)]
                alarms = [[first + at for at in each] for each in found]
                result[name][file.stem] = {"first": first, "end": first + seen.shape[1], "alarms": alarms}
            except ImportError as error:
                result[name] = {"missing": str(error)}
        print(f"{file.stem}: done", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
