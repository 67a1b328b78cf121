"""Evidence against a bound on odds that may be read at any time: an e-process.

An e-process begins at 1 and, while the bound holds, is expected to be at most 1 whenever somebody stops to read it. So
it exceeds ``1 / alpha`` at any time with a probability of ``alpha`` at most (Ville's inequality; Ramdas, Grünwald, Vovk
and Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023), however often it is read.

Here it is the likelihood ratio of events of which each is a *hit* or not. The bound says that the odds of a hit are at
most ``odds``; each of :data:`RATIOS` says that they are so many times that. There is one product of ratios for each
alternative, and their mean counts (the mixture of Robbins, "Statistical methods related to the law of the iterated
logarithm", 1970): the mean of e-processes is one. A smaller probability of a hit makes each product smaller on average,
so that it is enough to know the bound.

One formula serves three questions:

- **Whose is the next bad event?** A hit is one of the new version, among those of both. When both fail alike, the odds
  are those of their requests. Given how many requests and how many bad events an interval had, the number of hits has
  the hypergeometric distribution, whatever the rate was: neither a rate nor a share that changes from one interval to
  the next matters. The mean of its product is at most that of the binomial distribution, which is 1 (Hoeffding,
  "Probability inequalities for sums of bounded random variables", 1963, section 6). Where the odds of a bad event may
  be ``tolerance`` times the stable version's, the distribution is Fisher's noncentral one: that of a sum of independent
  events whose mean is below the binomial's, so that the same holds.
- **Did this request fail?** against a fixed rate.
- **Where did the next request go?** against the weights (Lindon and Malek, "Anytime-valid inference for multinomial
  count data", 2022).
"""

import math
from collections.abc import Sequence

#: the alternatives, as multiples of the bound's odds: some for small differences, some for a version that is dead
RATIOS = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)

Logs = tuple[float, ...]


def no_evidence() -> Logs:
    """Return the logarithms of the products before the first event."""
    return (0.0,) * len(RATIOS)


def more_evidence(logs: Sequence[float], *, hits: int, others: int, odds: float) -> Logs:
    """Multiply the products by the likelihood ratios of the events of one interval.

    :param logs: the logarithms of the products, one per ratio
    :param hits: events that count against the bound
    :param others: the other events
    :param odds: the largest odds of a hit under the bound; 0 and infinity when only one kind was possible
    """
    events = hits + others
    if not events or not 0 < odds < math.inf:
        return tuple(logs)
    null = math.log1p(odds)
    return tuple(
        log + hits * math.log(ratio) + events * (null - math.log1p(ratio * odds))
        for log, ratio in zip(logs, RATIOS, strict=True)
    )


def log_mean(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of the products: that of the e-process."""
    if not logs:
        return 0.0
    most = max(logs)
    return most + math.log(math.fsum(math.exp(log - most) for log in logs) / len(logs))
