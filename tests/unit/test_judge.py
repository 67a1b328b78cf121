"""The judge of rollouts: its evidence is what the theory promises, and its verdicts say why."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from modelway.endpoints.gateway.server_counts import read_server_counts
from modelway.endpoints.judge import Analysis, Evidence, Observation, Step, begin, decide, update
from modelway.endpoints.judge.e_process import RATIOS, log_mean, more_evidence, no_evidence

ANALYSIS = Analysis()
STEP = Step(weight=10, hold_seconds=60, requests=100)


def factors(*, hits, others, odds):
    return np.exp(more_evidence(no_evidence(), hits=hits, others=others, odds=odds))


def hypergeometric(*, ours, theirs, bad, odds_ratio=1.0):
    """Return how probable each number of bad events of ours is, given those of both (Fisher's noncentral one)."""
    weights = [
        math.comb(ours, x) * math.comb(theirs, bad - x) * odds_ratio**x if bad - x <= theirs else 0.0
        for x in range(min(ours, bad) + 1)
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("tolerance", [1.0, 1.1, 2.0])
@pytest.mark.parametrize("bad", [1, 5, 40, 90])
def test_evidence_against_an_equal_version_is_at_most_one_on_average_whatever_the_base_rate(tolerance, bad):
    """Exact, by all outcomes: the canary's odds of a bad event are just those that are accepted, or less."""
    for ours, theirs in ((10, 90), (60, 60), (3, 200)):
        for odds_ratio in {1.0, tolerance}:
            probabilities = hypergeometric(ours=ours, theirs=theirs, bad=bad, odds_ratio=odds_ratio)
            mean = sum(
                probability * factors(hits=x, others=bad - x, odds=tolerance * ours / theirs)
                for x, probability in enumerate(probabilities)
            )
            assert (mean <= 1 + 1e-9).all(), (ours, theirs, odds_ratio, mean)


def test_evidence_against_a_fixed_rate_is_one_on_average_at_that_rate_and_less_below():
    for rate, most in ((0.05, 1.0), (0.02, 1.0)):
        odds = 0.05 / 0.95
        mean = rate * factors(hits=1, others=0, odds=odds) + (1 - rate) * factors(hits=0, others=1, odds=odds)
        assert (mean <= most + 1e-12).all()


def test_events_of_which_only_one_kind_was_possible_say_nothing():
    for odds in (0.0, math.inf):
        assert more_evidence(no_evidence(), hits=3, others=0, odds=odds) == no_evidence()
    assert log_mean(()) == 0.0


def looks(*, minutes, stable, canary, share=0.1, analysis=ANALYSIS, evidence=None, per_minute=3000):
    """Return the evidence after so many minutes of exact rates: bad shares of each version by counter."""
    ours, theirs = evidence.canary if evidence else Observation(), evidence.stable if evidence else Observation()
    found = evidence or begin(stable=theirs, canary=ours)
    for _ in range(minutes):
        ours = added(ours, round(share * per_minute), canary)
        theirs = added(theirs, per_minute - round(share * per_minute), stable)
        found = update(found, stable=theirs, canary=ours, expected_share=share, analysis=analysis)
    return found


def added(before, requests, rates):
    of = {"errors": requests, "invalid": requests, "wrong": requests, "different": requests}
    more = {name: round(rate * of[name]) for name, rate in rates.items()}
    counted = {"labelled": requests, "compared": requests}
    counts = {"requests": requests, **counted, **more}
    return replace(before, **{name: getattr(before, name) + count for name, count in counts.items()})


def timed(requests, slow, *, before=None):
    """Return counts of which so many answers took more than 10 ms."""
    latency = {0.01: requests - slow, 0.1: slow, math.inf: 0}
    if before is not None:
        latency = {bound: count + before.latency[bound] for bound, count in latency.items()}
        requests += before.requests
    return Observation(requests=requests, latency=latency)


def test_a_version_as_good_as_the_stable_one_is_promoted_when_its_time_is_over():
    evidence = looks(minutes=5, stable={"errors": 0.01}, canary={"errors": 0.01})
    assert decide(evidence, ANALYSIS, step=STEP, seconds=59).action == "hold"
    verdict = decide(evidence, ANALYSIS, step=STEP, seconds=60)
    assert (verdict.action, verdict.reason) == ("promote", "nothing speaks against it")
    assert verdict.numbers["new"] == {"requests": 1500, "errors": 15}
    assert verdict.numbers["stable"] == {"requests": 13_500, "errors": 135}
    assert verdict.numbers["tests"]["errors"]["e"] < 1 < verdict.numbers["tests"]["errors"]["limit"]


def test_five_percent_of_base_errors_do_not_count_against_the_new_version():
    evidence = looks(minutes=60, stable={"errors": 0.05}, canary={"errors": 0.05})
    assert decide(evidence, ANALYSIS, step=STEP, seconds=3600).action == "promote"


def test_doubled_errors_roll_back_before_the_time_is_over_and_say_so():
    evidence = looks(minutes=30, stable={"errors": 0.01}, canary={"errors": 0.02})
    verdict = decide(evidence, ANALYSIS, step=replace(STEP, hold_seconds=7200), seconds=1800)
    assert verdict.action == "rollback"
    assert "180 of 9,000 requests to the new version failed, and 810 of 81,000 of the stable one" in verdict.reason
    assert "the limit is 66.67" in verdict.reason


def test_a_dead_version_is_rolled_back_after_a_few_requests():
    evidence = begin(stable=Observation(requests=1000, errors=5), canary=Observation())
    verdicts = []
    for failed in range(1, 9):
        canary, stable = Observation(requests=failed, errors=failed), Observation(requests=1000 + 9 * failed, errors=5)
        evidence = update(evidence, stable=stable, canary=canary, expected_share=0.1, analysis=ANALYSIS)
        verdicts.append(decide(evidence, ANALYSIS, step=STEP, seconds=failed).action)
    assert verdicts[0] == "hold"
    assert verdicts.index("rollback") <= 5


def test_evidence_of_earlier_steps_stays():
    little = looks(minutes=7, stable={"errors": 0.01}, canary={"errors": 0.0167})
    assert decide(little, ANALYSIS, step=STEP, seconds=0).action == "hold"
    next_step = begin(stable=little.stable, canary=little.canary, after=little)
    assert next_step.canary_step.requests == 0
    assert next_step.log_e("errors") == little.log_e("errors") > 0
    more = looks(minutes=20, stable={"errors": 0.01}, canary={"errors": 0.0167}, share=0.5, evidence=next_step)
    assert decide(more, ANALYSIS, step=STEP, seconds=0).action == "rollback"


def test_a_change_of_both_rates_with_the_weights_is_no_difference():
    """Few requests of the canary while everything failed, most while nothing did: pooled counts would mislead."""
    bad = looks(minutes=10, stable={"errors": 0.2}, canary={"errors": 0.2}, share=0.5)
    good = looks(minutes=10, stable={"errors": 0.01}, canary={"errors": 0.01}, share=0.1, evidence=bad)
    pooled = [total.errors / total.requests for total in (good.canary_total, good.stable_total)]
    assert pooled[0] > 1.5 * pooled[1]
    assert good.log_e("errors") < 0


def test_no_traffic_is_never_promoted_and_ends_with_what_to_expect():
    evidence = looks(minutes=600, stable={}, canary={}, per_minute=0)
    held = decide(evidence, ANALYSIS, step=STEP, seconds=3600)
    assert (held.action, held.reason) == ("hold", "0 of at least 100 requests reached the new version")
    ended = decide(evidence, ANALYSIS, step=STEP, seconds=3660)
    assert ended.action == "rollback"
    assert ended.reason.startswith("no result within 1h1m at 10 %: 0 of at least 100 requests")


def test_doubt_holds_until_it_is_gone_or_the_patience_is():
    doubt = looks(minutes=4, stable={"errors": 0.01}, canary={"errors": 0.0234})
    assert math.sqrt(10) < math.exp(doubt.log_e("errors")) < ANALYSIS.limit("errors")
    verdict = decide(doubt, ANALYSIS, step=STEP, seconds=61)
    assert (verdict.action, verdict.reason.split(",")[0]) == ("hold", "in doubt")
    assert decide(doubt, ANALYSIS, step=STEP, seconds=3660).action == "rollback"
    gone = looks(minutes=30, stable={"errors": 0.01}, canary={"errors": 0.009}, evidence=doubt)
    assert decide(gone, ANALYSIS, step=STEP, seconds=61).action == "promote"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_broken_split_is_never_promoted_and_is_named(share):
    evidence = begin(stable=Observation(), canary=Observation())
    canary = Observation(requests=round(2000 * share))
    stable = Observation(requests=2000 - canary.requests)
    evidence = update(evidence, stable=stable, canary=canary, expected_share=0.1, analysis=ANALYSIS)
    verdict = decide(evidence, ANALYSIS, step=STEP, seconds=61)
    assert verdict.action == "hold"
    assert f"the split is broken: the new version got {canary.requests:,} of 2,000 requests" in verdict.reason
    assert decide(evidence, ANALYSIS, step=STEP, seconds=3660).action == "rollback"


def test_a_broken_split_still_rolls_back_a_version_that_fails():
    evidence = begin(stable=Observation(requests=1000), canary=Observation())
    canary = Observation(requests=1000, errors=500)
    evidence = update(evidence, stable=Observation(requests=2000), canary=canary, expected_share=0.1, analysis=ANALYSIS)
    assert decide(evidence, ANALYSIS, step=STEP, seconds=1).action == "rollback"


def test_requests_that_name_their_version_are_no_part_of_the_split():
    evidence = begin(stable=Observation(), canary=Observation())
    canary, stable = Observation(requests=2100, named=2000), Observation(requests=900)
    evidence = update(evidence, stable=stable, canary=canary, expected_share=0.1, analysis=ANALYSIS)
    assert evidence.log_e("split") < 0


def test_a_slower_version_is_rolled_back_by_the_share_of_slow_answers():
    stable, canary = timed(1000, 100), timed(0, 0)
    evidence = begin(stable=stable, canary=canary)
    assert [(bound.seconds, bound.counts_slow) for bound in evidence.slow] == [(0.01, True)]
    for _ in range(10):
        stable, canary = timed(900, 90, before=stable), timed(100, 30, before=canary)
        evidence = update(evidence, stable=stable, canary=canary, expected_share=0.1, analysis=ANALYSIS)
    verdict = decide(evidence, ANALYSIS, step=STEP, seconds=1)
    assert verdict.action == "rollback"
    # Not those of the first interval: a new version fills its caches.
    assert "270 of 900 answers of the new version took more than 10 ms, and 810 of 8,100" in verdict.reason
    without = replace(ANALYSIS, latency_tolerance=None)
    assert update(begin(stable=stable, canary=canary), **_same(stable, canary, without)).log_e("latency") == 0


def _same(stable, canary, analysis):
    return {"stable": stable, "canary": canary, "expected_share": 0.1, "analysis": analysis}


def test_fast_answers_are_counted_where_most_are_slow():
    stable, canary = timed(1000, 900), timed(0, 0)
    evidence = begin(stable=stable, canary=canary)
    assert not evidence.slow[0].counts_slow
    for _ in range(30):
        stable, canary = timed(900, 810, before=stable), timed(100, 99, before=canary)
        evidence = update(evidence, stable=stable, canary=canary, expected_share=0.1, analysis=ANALYSIS)
    assert decide(evidence, ANALYSIS, step=STEP, seconds=1).action == "rollback"


def test_a_version_with_most_of_the_requests_may_be_slower_by_that():
    stable, canary = timed(1000, 100), timed(100, 10)
    evidence = begin(stable=stable, canary=canary)
    for _ in range(10):
        stable, canary = timed(100, 10, before=stable), timed(900, 400, before=canary)
        evidence = update(evidence, stable=stable, canary=canary, expected_share=0.9, analysis=ANALYSIS)
    assert evidence.log_e("latency") == 0


@pytest.mark.parametrize(
    ("rates", "stable", "what"),
    [
        ({"invalid": 0.02}, {"invalid": 0.005}, "answers of the new version are invalid"),
        ({"wrong": 0.2}, {"wrong": 0.1}, "answers of the new version turned out wrong"),
        ({"different": 0.08}, {}, "mirrored requests were answered differently"),
    ],
)
def test_optional_counts_are_judged_where_they_are(rates, stable, what):
    analysis = replace(ANALYSIS, maximum_difference=0.02)
    evidence = looks(minutes=30, stable=stable, canary=rates, analysis=analysis)
    verdict = decide(evidence, analysis, step=STEP, seconds=1)
    assert verdict.action == "rollback"
    assert what in verdict.reason


def test_without_analysis_only_the_bound_on_errors_is_judged():
    analysis = replace(ANALYSIS, enabled=False)
    fine = looks(minutes=60, stable={"errors": 0.0}, canary={"errors": 0.04}, analysis=analysis)
    assert decide(fine, analysis, step=STEP, seconds=60).action == "promote"
    bad = looks(minutes=10, stable={"errors": 0.0}, canary={"errors": 0.1}, analysis=analysis)
    verdict = decide(bad, analysis, step=STEP, seconds=60)
    assert (verdict.action, "300 of 3,000 requests to the new version failed" in verdict.reason) == ("rollback", True)


def test_without_a_stable_version_the_bound_on_errors_is_judged():
    evidence = begin(stable=None, canary=Observation())
    for at in range(1, 11):
        canary = Observation(requests=10 * at, errors=5 * at)
        evidence = update(evidence, stable=None, canary=canary, expected_share=1.0, analysis=ANALYSIS)
    step = Step(weight=100, hold_seconds=10)
    assert decide(evidence, ANALYSIS, step=step, seconds=1).action == "rollback"


def test_a_stable_version_without_traffic_leaves_the_bound_on_errors():
    evidence = begin(stable=Observation(), canary=Observation())
    canary = Observation(requests=300, errors=3)
    evidence = update(evidence, stable=Observation(), canary=canary, expected_share=1.0, analysis=ANALYSIS)
    assert decide(evidence, ANALYSIS, step=Step(weight=100), seconds=1).action == "promote"
    evidence = update(evidence, **_at_all(Observation(requests=400, errors=63)))
    assert decide(evidence, ANALYSIS, step=Step(weight=100), seconds=1).action == "rollback"


def _at_all(canary):
    return {"stable": Observation(), "canary": canary, "expected_share": 1.0, "analysis": ANALYSIS}


def test_counters_that_restart_are_a_new_base():
    """One of several gateways was replaced: what the others have counted is not new, and nothing is counted twice."""
    evidence = begin(stable=Observation(requests=9000, since=1), canary=Observation(requests=1000, errors=10, since=1))
    # It leaves.
    stable, canary = Observation(requests=4500, since=1), Observation(requests=505, errors=5, since=1)
    evidence = update(evidence, **_same(stable, canary, ANALYSIS))
    assert (evidence.canary_total.requests, evidence.stable_total.requests) == (0, 0)
    # Its successor joins.
    stable, canary = (replace(each, requests=each.requests + 5, since=2) for each in (stable, canary))
    evidence = update(evidence, **_same(stable, canary, ANALYSIS))
    assert (evidence.canary_total.requests, evidence.canary_total.errors) == (0, 0)
    stable, canary = replace(stable, requests=4595), replace(canary, requests=520, errors=7)
    evidence = update(evidence, **_same(stable, canary, ANALYSIS))
    assert (evidence.canary_total.requests, evidence.canary_total.errors) == (10, 2)
    assert evidence.stable_total.requests == 90


def test_an_interval_in_which_the_counters_of_one_version_restarted_is_left_out():
    """They are sums over servers: one of them was replaced, and the others' counts are not new."""
    evidence = begin(stable=Observation(requests=20_000, errors=100), canary=Observation(requests=1000))
    stable, canary = Observation(requests=10_050, errors=50), Observation(requests=1100)
    evidence = update(evidence, **_same(stable, canary, ANALYSIS))
    assert (evidence.stable_total.requests, evidence.canary_total.requests, evidence.log_e("split")) == (0, 0, 0)
    stable, canary = replace(stable, requests=10_950), replace(canary, requests=1200)
    evidence = update(evidence, **_same(stable, canary, ANALYSIS))
    assert (evidence.stable_total.requests, evidence.canary_total.requests) == (900, 100)


def test_times_of_a_server_that_restarted_are_left_out():
    stable, canary = timed(1000, 100), timed(100, 10)
    evidence = begin(stable=stable, canary=canary)
    evidence = update(evidence, **_same(timed(900, 90, before=stable), timed(100, 90), ANALYSIS))
    assert evidence.log_e("latency") == 0


def test_times_of_a_server_that_could_not_be_read_before_are_left_out():
    """Its answers of all the time before would count as those of the last interval."""
    stable, canary = timed(1000, 100), timed(100, 10)
    evidence = begin(stable=stable, canary=canary)
    back = timed(100, 60, before=canary)
    all_at_once = replace(timed(10_000, 0, before=stable), requests=stable.requests + 900)
    evidence = update(evidence, **_same(all_at_once, back, ANALYSIS))
    assert evidence.log_e("latency") == 0


def test_calls_of_grpc_that_servers_failed_are_errors_unless_a_server_could_not_be_read():
    page = 'modelway_grpc_requests_total{model="m",model_version="1",code="%d"} %d.0\n'
    pages = [page % (200, 90) + page % (500, 3), page % (503, 4) + page % (404, 9), page % (500, 0)]
    assert read_server_counts(pages).call_errors == 7
    assert read_server_counts([*pages, ""]).call_errors == 0
    before = replace(timed(100, 100), errors=1, call_errors=2)
    now = replace(before, requests=200, errors=2, call_errors=7)
    assert now.since_then(before).errors == 6
    unread = replace(now, latency={}, call_errors=0)
    assert unread.since_then(before).errors == 1
    assert replace(now, requests=300, errors=3).since_then(unread).errors == 1
    # a server that was restarted begins anew
    assert replace(now, call_errors=0).since_then(before).errors == 1


def test_invalid_answers_of_a_server_that_could_not_be_read_before_are_left_out():
    """Both versions give invalid answers to the same requests, and all of the time before would count as new."""
    stable, canary = replace(timed(1000, 100), invalid=20), replace(timed(1000, 100), invalid=20)
    evidence = begin(stable=stable, canary=canary)
    for reads in (False, True):
        more = [replace(each, requests=each.requests + 100) for each in (stable, canary)]
        canary = more[1] if reads else replace(more[1], latency={}, invalid=0)
        evidence = update(evidence, **_same(more[0], canary, ANALYSIS))
        stable, canary = more
    assert evidence.canary_total.invalid == 0
    evidence = update(evidence, **_same(stable, replace(canary, requests=1300, invalid=21), ANALYSIS))
    assert evidence.canary_total.invalid == 1


def test_copies_that_a_version_gets_are_no_broken_split():
    evidence = begin(stable=Observation(), canary=Observation())
    counts = {"stable": Observation(requests=9_000), "canary": Observation(requests=10_000)}
    for gets_copies in (True, False):
        found = update(evidence, **counts, expected_share=0.1, analysis=ANALYSIS, gets_copies=gets_copies)
        assert (found.log_e("split") == 0) is gets_copies
        assert decide(found, ANALYSIS, step=STEP, seconds=99).action == ("promote" if gets_copies else "hold")


def test_an_error_that_is_counted_after_its_request_is_one_request_and_one_error():
    evidence = begin(stable=Observation(requests=900), canary=Observation(requests=100))
    late = Observation(requests=100, errors=1)
    evidence = update(evidence, **_same(Observation(requests=1000), late, ANALYSIS))
    assert (evidence.canary_total.requests, evidence.canary_total.errors) == (1, 1)
    assert evidence.log_e("errors") < math.log(RATIOS[-1])


def test_evidence_is_plain_json_and_comes_back_the_same():
    evidence = looks(minutes=3, stable={"errors": 0.01, "wrong": 0.1}, canary={"errors": 0.02})
    stable, canary = timed(1000, 100, before=timed(9, 1)), timed(100, 10)
    evidence = update(evidence, **_same(replace(stable, requests=10_000), canary, ANALYSIS))
    text = json.dumps(evidence.to_dict(), allow_nan=False)
    again = Evidence.from_dict(json.loads(text))
    assert again.to_dict() == evidence.to_dict()
    assert again.slow == evidence.slow
    assert again.canary == evidence.canary
    more = _same(replace(stable, requests=11_000), replace(canary, requests=1000), ANALYSIS)
    assert update(again, **more).log_e("errors") == pytest.approx(update(evidence, **more).log_e("errors"), abs=1e-5)
    assert Analysis.from_dict({**ANALYSIS.to_dict(), "of a later modelway": 1}) == ANALYSIS


def test_looking_often_is_the_same_as_looking_once():
    """While the rates and the weights are what they were, the intervals between looks do not matter much."""
    once = looks(minutes=1, stable={"errors": 0.01}, canary={"errors": 0.02}, per_minute=30_000)
    often = looks(minutes=10, stable={"errors": 0.01}, canary={"errors": 0.02}, per_minute=3000)
    assert often.log_e("errors") == pytest.approx(once.log_e("errors"), rel=1e-6)


def test_the_budget_of_all_tests_is_the_tolerated_share_of_false_rollbacks():
    tests = ("errors", "latency", "failing", "invalid", "labels", "different", "split")
    assert sum(1 / ANALYSIS.limit(test) for test in tests) == pytest.approx(ANALYSIS.false_rollbacks)
    assert all(lower < higher for lower, higher in pairwise(RATIOS))
