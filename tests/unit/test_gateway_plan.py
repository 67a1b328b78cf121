"""The gateway's map: every bucket belongs to the slot whose share it is in."""

import pytest
from modelway.endpoints.gateway.commands import plan_commands
from modelway.endpoints.gateway.drift import find_share_drift
from modelway.endpoints.gateway.haproxy import plan
from modelway.endpoints.gateway.routes import Route, Routes
from modelway.endpoints.shares import BUCKETS


def routes(*weights: int) -> Routes:
    """Return predictors in every other slot, the first of them the stable one."""
    found = (
        Route(name=f"v{at + 1}", version=at + 1, slot=2 * at, addresses=(f"127.0.0.1:{81 + at}",), weight=weight)
        for at, weight in enumerate(weights)
    )
    return Routes(all=tuple(found), stable_name="v1")


def slots(entries: dict[str, str]) -> list[str]:
    """Return the slot of each bucket, as HAProxy finds it: by the longest beginning in the map."""
    numbers = (str(BUCKETS + bucket) for bucket in range(BUCKETS))
    return [
        next((entries[number[:end]] for end in range(len(number), 0, -1) if number[:end] in entries), "")
        for number in numbers
    ]


@pytest.mark.parametrize("weights", [(100,), (30, 50, 20), (1, 9998, 1), (3333, 3333, 3334), (5, 0, 5), (1,) * 8])
def test_each_bucket_has_the_slot_of_its_share(weights: tuple[int, ...]) -> None:
    entries = plan(routes(*weights))
    expected: list[str] = []
    parts = entries["plan"].split(":")
    for end, slot in zip(parts[::2], parts[1::2], strict=True):
        expected += [slot] * (int(end) - len(expected))
    assert slots(entries) == expected
    buckets = [key for key in entries if key.isdecimal()]
    assert not any(one != other and one.startswith(other) for one in buckets for other in buckets)
    assert len(buckets) < 250


def test_without_weights_no_bucket_has_a_slot() -> None:
    assert set(slots(plan(routes(0, 0)))) == {""}


def test_all_buckets_are_sent_in_one_command() -> None:
    entries = plan(routes(3333, 3333, 3334))
    texts = [text for text, _ in plan_commands(entries)]
    (buckets,) = (text for text in texts if "<<" in text)
    assert len(buckets.splitlines()) == 1 + sum(key.isdecimal() for key in entries)
    assert texts[0].startswith("prepare map")
    assert texts[-1].startswith("commit map")


def test_buckets_that_somebody_changed_are_reported_and_those_of_an_earlier_form_are_not() -> None:
    one = routes(50, 50)
    entries = plan(one)
    assert list(find_share_drift(entries, one)) == []
    assert list(find_share_drift({key: value for key, value in entries.items() if not key.isdecimal()}, one)) == []
    assert list(find_share_drift({**entries, "10": "2"}, one)) == [
        "the gateway's shares are v1 50 %, v2 50 % in name, but its buckets are others, "
        "and those that were applied v1 50 %, v2 50 %"
    ]
