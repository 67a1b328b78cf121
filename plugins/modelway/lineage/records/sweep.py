"""The candidates of a sweep as people read them: pure, standard library only."""

from collections.abc import Sequence

from modelway.lineage.records.version import CandidateRecord

#: from what became the version to what came to nothing
STATES = ("selected", "trained", "dropped", "stopped", "failed")


def ranked(candidates: Sequence[CandidateRecord]) -> list[CandidateRecord]:
    """Return the candidates with the selected one first, then by what became of them, as they were drawn."""
    places = {state: place for place, state in enumerate(STATES)}
    return sorted(candidates, key=lambda each: places.get(each.state, len(STATES)))


def searched_params(candidates: Sequence[CandidateRecord]) -> list[str]:
    """Return the names of the parameters that were searched."""
    return list(dict.fromkeys(name for each in candidates for name in each.params))
