"""The memory that all requests in flight share."""

from modelway.server.core.budget import FREE, Budget, Share


def test_a_share_that_was_released_takes_nothing_any_more() -> None:
    budget = Budget(10 * FREE)
    share = Share(budget)
    share.need(4 * FREE)
    assert budget.used == 3 * FREE
    share.close()
    # a large request that is decoded aside while its client leaves
    share.need(5 * FREE)
    assert budget.used == 0
    share.close()
    assert budget.used == 0
