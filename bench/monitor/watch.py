"""The monitor's own code on simulated traffic, with the sketches that the server makes and retrainings that succeed."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from modelway.monitor.compare import find_drift, find_schema_change, find_worse_quality
from modelway.monitor.decide import Alarm, Past, decide, requested
from modelway.monitor.reference import Reference, Tally
from modelway.monitor.rules import DAY, DriftRule, QualityRule, Rules
from modelway.sketches import Counts
from simulate import CLASSES, NUMBERS, QUARTERS, REFERENCE_ROWS, Case, Rows, draw, first_reference, traffic_of

RULES = Rules(drift=DriftRule(), quality=QualityRule())
#: days after which a label is known
LABEL_DAYS = 2


@dataclass(frozen=True)
class Tensor:
    """One input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS = (Tensor("x", "FP32", (-1, NUMBERS)), Tensor("kind", "BYTES", (-1,)))
OUTPUTS = (Tensor("scores", "FP32", (-1, CLASSES)),)


def counted(rows: Rows) -> dict[str, Any]:
    """Return the document that a server has of some rows."""
    counts = Counts(inputs=INPUTS, outputs=OUTPUTS)
    counts.add({"x": [rows.numbers], "kind": [rows.categories]}, {"scores": [rows.scores]})
    return {"rows": len(rows.right), **counts.documents()}


def evaluated(rows: Rows) -> Reference:
    """Return what freezing has of them."""
    quality = {"labelled": len(rows.right), "right": int(rows.right.sum())}
    return Reference.of({**counted(rows), "quality": quality})


@dataclass
class Serving:
    """The version that serves now."""

    reference: Reference
    #: those of the window, and their sum
    tallies: deque[dict[str, Tally]] = field(default_factory=deque)
    window: dict[str, Tally] = field(default_factory=dict)
    labels: deque[tuple[int, int]] = field(default_factory=deque)
    alarms: dict[str, Alarm] = field(default_factory=dict)

    def add(self, tallies: dict[str, Tally]) -> None:
        """Move the window on: the last day, or longer where that has too few rows, as ``runs.monitoring`` does."""
        self.tallies.append(tallies)
        self.window = {key: self.window[key].plus(each) if self.window else each for key, each in tallies.items()}
        drift = RULES.drift
        assert drift is not None
        while len(self.tallies) * DAY / QUARTERS > drift.window_seconds:
            rest = {key: self.window[key].plus(each, -1) for key, each in self.tallies[0].items()}
            is_long = len(self.tallies) > 35 * QUARTERS
            if not is_long and max(tally.rows for tally in rest.values()) < drift.minimum_rows:
                break
            self.tallies.popleft()
            self.window = rest


def watch(case: Case, *, days: int, seed: int) -> list[tuple[float, str]]:
    """Return the day and the rule of each retraining in so many days."""
    # The traffic does not depend on what is retrained when: others see the same.
    traffic, generator = traffic_of(case, days=days, seed=seed), np.random.default_rng([seed, 1])
    serving = Serving(evaluated(first_reference(case, seed=seed)))
    fired: list[tuple[float, str]] = []
    past: list[Past] = []
    for quarter, rows in enumerate(traffic, start=1):
        day = quarter / QUARTERS
        serving.add(serving.reference.count(counted(rows)))
        serving.labels.append((len(rows.right), int(rows.right.sum())))
        findings = _findings(serving)
        decision = decide(RULES, findings, alarms=serving.alarms, past=past, now=day * DAY)
        serving.alarms = dict(decision.alarms)
        if decision.finding is not None:
            past.append(Past(id=len(past) + 1, at=day * DAY, in_flight=False, failed=False))
            serving.alarms = dict(requested(decision, len(past)))
            fired.append((day, decision.finding.rule))
            # The run takes less than the time to the next check, and its version wins.
            serving = Serving(evaluated(draw(case.world(day), REFERENCE_ROWS, generator)))
    return fired


def _findings(serving: Serving) -> list[Any]:
    drift, quality = RULES.drift, RULES.quality
    assert drift is not None
    assert quality is not None
    known = list(serving.labels)[: len(serving.labels) - LABEL_DAYS * QUARTERS or None]
    recent = (
        known[-int(quality.window_seconds / DAY * QUARTERS) :] if len(serving.labels) > LABEL_DAYS * QUARTERS else []
    )
    labelled, right = (sum(each[at] for each in recent) for at in (0, 1))
    return [
        find_schema_change(serving.reference, serving.window, drift),
        find_drift(serving.reference, serving.window, drift),
        find_worse_quality(serving.reference, right, labelled, quality),
    ]
