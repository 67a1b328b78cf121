"""How checkpoints are divided among evaluation jobs."""

import functools
import itertools
import math

import pytest
from modelway.errors import ModelwayError
from modelway.runs.batches import Cost, divided, evenly_spaced


def sizes(count, **asked):
    shares = divided(range(count), **asked)
    assert [item for share in shares for item in share] == list(range(count)), "each once, in order"
    return [len(share) for share in shares]


def cost(startup, evaluation):
    return Cost(startup_seconds=startup, evaluation_seconds=evaluation)


def test_of_what_is_not_known_each_place_gets_one_job():
    assert sizes(6, parallel=2) == [3, 3]
    assert sizes(32, parallel=2) == [16, 16]
    assert sorted(sizes(7, parallel=3)) == [2, 2, 3]


def test_there_are_never_more_jobs_than_checkpoints():
    assert sizes(2, parallel=4) == [1, 1]
    assert sizes(1, parallel=4, cost=cost(0.1, 100)) == [1]
    assert sizes(0, parallel=4) == []


def test_there_are_never_more_jobs_than_airflow_maps_over():
    assert set(sizes(3000, parallel=8, per_job=1, most=1024)) == {2, 3}
    assert len(sizes(3000, parallel=8, cost=cost(0, 1), most=1024)) == 1024
    assert sizes(5, parallel=2, per_job=1, most=1024) == [1] * 5


def test_evenly_spaced_ones_have_the_last_among_them():
    assert evenly_spaced(range(3), 3) == [0, 1, 2]
    assert evenly_spaced(range(1025), 1024)[-1] == 1024
    for count, most in itertools.product((7, 100, 1025), (1, 2, 6)):
        taken = evenly_spaced(range(count), most)
        assert taken[-1] == count - 1
        gaps = {b - a for a, b in itertools.pairwise(taken)}
        assert len(taken) == most
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_long_evaluation_gets_a_job_of_its_own():
    assert sizes(6, parallel=2, cost=cost(5, 60)) == [1] * 6


def test_a_short_evaluation_shares_a_job_with_as_many_as_can_be():
    assert sizes(6, parallel=2, cost=cost(5, 0.1)) == [3, 3]


def test_between_them_the_jobs_go_in_whole_rounds():
    # 16 evaluations of 1 s in each place, and 9 x 0.5 s of them make half a second of starting a tenth: 3 rounds.
    assert sizes(32, parallel=2, cost=cost(0.5, 1)) == [5, 6, 5, 5, 6, 5]


def test_nothing_to_start_divides_as_far_as_can_be():
    assert sizes(6, parallel=2, cost=cost(0, 1)) == [1] * 6


def seconds(shares, parallel, startup, evaluation):
    """Return the time by the plan: each place takes the next job when it is free, as Airflow does."""
    places = [0.0] * parallel
    for share in shares:
        places[places.index(min(places))] += startup + len(share) * evaluation
    return max(places)


def test_what_auto_takes_is_close_to_the_best_of_all_sizes():
    grid = ([1, 2, 6, 31, 32, 33], [1, 2, 3, 7, 40], [0, 0.01, 0.3, 4, 300], [0.001, 0.5, 9, 600])
    for count, parallel, startup, evaluation in itertools.product(*grid):
        took = functools.partial(seconds, parallel=parallel, startup=startup, evaluation=evaluation)
        chosen = took(divided(range(count), parallel=parallel, cost=cost(startup, evaluation)))
        best = min(took(divided(range(count), parallel=parallel, per_job=size)) for size in range(1, count + 1))
        # A tenth goes to starting by design, and a share may be one longer than another.
        assert chosen <= best / 0.9 + evaluation + 1e-9, (count, parallel, startup, evaluation)
        assert took(divided(range(count), parallel=parallel)) <= best + 1e-9, "one job per place is never slower"


def test_a_number_is_taken_as_it_is():
    assert sizes(7, parallel=2, per_job=1) == [1] * 7
    assert sizes(7, parallel=2, per_job=3) == [2, 3, 2]
    assert sizes(7, parallel=2, per_job=100) == [7]
    assert sizes(7, parallel=2, per_job=3, cost=cost(0, 100)) == [2, 3, 2]


@pytest.mark.parametrize("per_job", [0, -1, "many", 1.5, True, None, math.nan])
def test_what_is_no_number_of_checkpoints_is_refused(per_job):
    with pytest.raises(ModelwayError, match=r"per_job is .*Set evaluate\.per_job to auto or to a number from 1"):
        divided([1], parallel=1, per_job=per_job)


@pytest.mark.parametrize("parallel", [0, "2", None])
def test_what_is_no_number_of_jobs_is_refused(parallel):
    with pytest.raises(ModelwayError, match="parallel is"):
        divided([1], parallel=parallel)
