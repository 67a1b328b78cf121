"""What others alarm at on the same traffic, a day at a time beside the first 1,000 rows; run in their own environment.

``python peers.py FOLDER``: FOLDER has one file a case, ``reference`` [1000, 7] and ``days`` [days, rows, 7]. Prints
JSON: by peer and case the days with an alarm. Packages: scipy; river and evidently (with pandas < 3) where installed.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats


def plain_ks(reference, days):
    """A column with p < 0.05 on a day is an alarm."""
    columns = range(reference.shape[1])
    return [
        at
        for at, rows in enumerate(days)
        if any(stats.ks_2samp(reference[:, each], rows[:, each]).pvalue < 0.05 for each in columns)
    ]


def kswin(reference, days):
    """One detector a column with its defaults, on every value in turn."""
    from river.drift import KSWIN

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
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [str(each) for each in range(reference.shape[1])]
    before, found = pandas.DataFrame(reference, columns=names), []
    for at, rows in enumerate(days):
        report = Report([DataDriftPreset()]).run(pandas.DataFrame(rows, columns=names), before)
        counts = next(each for each in report.dict()["metrics"] if "DriftedColumnsCount" in each["metric_name"])
        if counts["value"]["share"] >= 0.5:
            found.append(at)
    return found


PEERS = {"plain KS, p < 0.05": plain_ks, "river KSWIN": kswin, "evidently": evidently}


def main():
    """Run all that are installed."""
    result = {}
    for name, peer in PEERS.items():
        try:
            result[name] = {}
            for file in sorted(Path(sys.argv[1]).glob("*.npz")):
                with np.load(file) as case:
                    result[name][file.stem] = peer(case["reference"], case["days"])
        except ImportError as error:
            result[name] = {"missing": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
