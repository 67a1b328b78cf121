"""How many checkpoints one evaluation job gets: few enough to spread them, enough that starting jobs costs little."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from modelway.errors import ModelwayError

Item = TypeVar("Item")

#: with ``auto``, starting takes at most this part of a job's time
MOST_STARTUP = 0.1
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured times: the seconds that a job needs besides evaluating, and those of one evaluation."""

    startup_seconds: float
    evaluation_seconds: float


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` of the items, evenly spaced and in order, the last one included."""
    count = len(items)
    if count <= most:
        return list(items)
    return [items[(place + 1) * count // most - 1] for place in range(most)]


def divided(
    items: Sequence[Item],
    *,
    parallel: int,
    per_job: int | str = AUTO,
    cost: Cost | None = None,
    most: int | None = None,
) -> list[list[Item]]:
    """Return the checkpoints of each job, in order; the sizes of the batches differ by at most one.

    With ``auto`` there are as many jobs as run at the same time, each with one batch. Where evaluating is known to take
    so long that the start of a job costs little, there are more and smaller batches, in whole rounds of ``parallel``: a
    retry repeats less, and the other places compensate for a slow batch.

    :param most: upper limit of the number of jobs, whatever ``per_job`` says
    :raises ModelwayError: ``parallel`` or ``per_job`` is not a number from 1
    """
    if _number(parallel) < 1:
        raise ModelwayError(f"parallel is {parallel!r}, not a number from 1", do="Set evaluate.parallel to such a one")
    if per_job != AUTO and _number(per_job) < 1:
        raise ModelwayError(f"per_job is {per_job!r}", do="Set evaluate.per_job to auto or to a number from 1")
    if not items:
        return []
    count = len(items)
    jobs = parallel * _rounds(count, parallel, cost) if per_job == AUTO else math.ceil(count / _number(per_job))
    jobs = min(count, jobs, most or jobs)
    ends = [round(job * count / jobs) for job in range(jobs + 1)]
    return [list(items[begin:end]) for begin, end in zip(ends, ends[1:], strict=False)]


def _number(value: int | str) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _rounds(count: int, parallel: int, cost: Cost | None) -> int:
    """Return how many jobs run one after another in each of the ``parallel`` places."""
    largest = math.ceil(count / parallel)
    if cost is None:
        return 1
    if cost.startup_seconds <= 0:
        return largest
    # With s seconds to start and n evaluations of e seconds each, starting is s / (s + n e) of the time.
    least = cost.startup_seconds * (1 - MOST_STARTUP) / MOST_STARTUP
    return max(1, min(largest, int(largest * cost.evaluation_seconds // least)))
