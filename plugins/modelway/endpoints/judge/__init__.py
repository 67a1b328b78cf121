"""Judges a rollout: whether the new version does worse than the stable one, however often the counts are read.

Pure: counts in, a verdict with its numbers out; all of it is plain JSON, so that it can be stored between two looks.
See docs/adr/0034-a-rollout-is-judged-by-e-processes.md.
"""

from modelway.endpoints.judge.evidence import Evidence, begin, update
from modelway.endpoints.judge.observation import Observation
from modelway.endpoints.judge.settings import Analysis, Step
from modelway.endpoints.judge.verdict import Verdict, decide

__all__ = ["Analysis", "Evidence", "Observation", "Step", "Verdict", "begin", "decide", "update"]
