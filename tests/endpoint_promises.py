"""What every endpoint promises, whatever it runs on: the tests of each target's file import these.

A file gives the fixtures ``endpoint``, ``spec`` (weights by version, and ``stable``, to the spec of the endpoint
``tiny``), ``images`` (references by version, and ``broken``) and ``target``.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import pytest
from modelway.endpoints.base import Endpoint, EndpointSpec, EndpointStatus, Predictor
from modelway.errors import EndpointNotReady, ImageInvalid, InvalidSpec, UnknownEndpoint, UnknownVersion

from tests.endpoint_clients import ask, load

Make = Callable[..., EndpointSpec]


class Target(Protocol):
    """What a test finds out about a target from outside."""

    #: how many requests show a split
    requests: int
    #: what the error of a model that cannot be loaded matches
    of_broken: str

    def process_at(self, url: str) -> object:
        """What answers at a URL: the same as long as it was not replaced."""
        ...

    def runs(self, servers: int) -> bool:
        """Whether so many servers run of the endpoint, with what else it needs, and nothing more; waits a while."""
        ...

    def is_silent(self, url: str) -> bool:
        """Whether no version answers at a URL."""
        ...


def test_split_is_exact(endpoint: Endpoint, spec: Make, target: Target) -> None:
    """Pearson's chi-square, 2 degrees of freedom: 27.6 is passed by chance once in a million."""
    status = endpoint.apply(spec({1: 6, 2: 3, 3: 1}))
    total = target.requests
    counts = Counter(version for code, version, _ in ask(status.url, total) if code == 200)
    assert sum(counts.values()) == total
    expected = {"1": 0.6 * total, "2": 0.3 * total, "3": 0.1 * total}
    assert sum((counts[version] - n) ** 2 / n for version, n in expected.items()) < 27.6
    metrics = endpoint.metrics("tiny")
    assert {name.removeprefix("v"): one.requests for name, one in metrics.items()} == counts
    assert [one.errors for one in metrics.values()] == [0, 0, 0]


def test_answers_come_from_the_version_that_the_header_names(endpoint: Endpoint, spec: Make) -> None:
    status = endpoint.apply(spec({1: 1, 2: 1}))
    assert {(version, value) for _, version, value in ask(status.url, 100)} == {("1", 1.0), ("2", 2.0)}
    assert [{value for _, _, value in ask(one.url, 3)} for one in status.predictors] == [{1.0}, {2.0}]


def test_weights_change_under_load_without_one_failed_request(endpoint: Endpoint, spec: Make, target: Target) -> None:
    status = endpoint.apply(spec({1: 100, 2: 0}))
    gateway = target.process_at(status.url)
    with load(status.url) as answers:
        for weight in (10, 50, 100):
            answers.wait_for(100)
            endpoint.set_weights("tiny", {"v1": 100 - weight, "v2": weight})
            changed = len(answers.all)
            answers.wait_for(300)
            share = [version for _, version, _ in answers.all[changed + 20 :]].count("2") / (
                len(answers.all) - changed - 20
            )
            assert abs(share - weight / 100) < 0.15
        promoted = endpoint.apply(spec({2: 100}, stable=2))
        answers.wait_for(100)
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}
    assert [one.version for one in promoted.predictors] == [2]
    assert (promoted.url, target.process_at(promoted.url)) == (status.url, gateway)


def test_a_new_version_comes_and_goes_many_times_under_load(endpoint: Endpoint, spec: Make, target: Target) -> None:
    status = endpoint.apply(spec({1: 100}))
    gateway = target.process_at(status.url)
    with load(status.url) as answers:
        for _ in range(3):
            endpoint.apply(spec({1: 50, 3: 50}))
            answers.wait_for(50)
            endpoint.apply(spec({1: 100}))
    assert answers.failures == []
    assert {code for code, _, _ in answers.all} == {200}
    assert {version for _, version, _ in answers.all} == {"1", "3"}
    assert target.process_at(status.url) == gateway


def test_apply_twice_changes_nothing(endpoint: Endpoint, spec: Make, target: Target) -> None:
    first = endpoint.apply(spec({1: 90, 2: 10}))
    before = [target.process_at(url) for url in (first.url, *(one.url for one in first.predictors))]
    second = endpoint.apply(spec({1: 90, 2: 10}))
    assert second == first
    assert endpoint.status("tiny") == first
    assert [target.process_at(url) for url in (second.url, *(one.url for one in second.predictors))] == before


def test_two_applies_at_once_come_one_after_the_other(endpoint: Endpoint, spec: Make, target: Target) -> None:
    results: list[EndpointStatus] = []
    threads = [threading.Thread(target=lambda: results.append(endpoint.apply(spec({1: 90, 2: 10})))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert target.runs(2)


def test_a_version_that_cannot_be_loaded_leaves_the_split_as_it_is(
    endpoint: Endpoint, spec: Make, target: Target, images: dict[int | str, str]
) -> None:
    before = endpoint.apply(spec({1: 100}))
    broken = Predictor(name="v4", version=4, image=images["broken"], weight=50)
    bad = replace(spec({1: 50}), predictors=(*spec({1: 50}).predictors, broken))
    with pytest.raises(ImageInvalid, match=target.of_broken):
        endpoint.apply(bad)
    assert endpoint.status("tiny") == before
    assert {version for _, version, _ in ask(before.url, 20)} == {"1"}
    assert target.runs(1)


def test_same_version_from_another_image_is_replaced_without_a_gap(
    endpoint: Endpoint, spec: Make, images: dict[int | str, str]
) -> None:
    status = endpoint.apply(spec({1: 100}))
    (predictor,) = spec({1: 100}).predictors
    other = replace(spec({1: 100}), predictors=(replace(predictor, image=images[3]),))
    with load(status.url) as answers:
        answers.wait_for(50)
        endpoint.apply(other)
        mark = len(answers.all)
        answers.wait_for(50)
    assert answers.failures == []
    assert {value for _, _, value in answers.all[:mark]} <= {1.0, 3.0}
    assert answers.all[-1] == (200, "1", 3.0)


def test_bad_weights_are_refused(endpoint: Endpoint, spec: Make) -> None:
    before = endpoint.apply(spec({1: 3, 2: 1}))
    bad: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"v1": 1, "v9": 1}, UnknownVersion),
        ({"v1": -1, "v2": 2}, InvalidSpec),
        ({"v1": 0, "v2": 0}, InvalidSpec),
        ({}, InvalidSpec),
        ({"v1": 0.5}, InvalidSpec),
    ]
    for weights, error in bad:
        with pytest.raises(error):
            endpoint.set_weights("tiny", weights)
        assert endpoint.status("tiny") == before, weights


def test_endpoint_that_is_not_there(endpoint: Endpoint) -> None:
    assert endpoint.status("tiny") is None
    endpoint.stop("tiny")
    endpoint.delete("tiny")
    with pytest.raises(UnknownEndpoint, match="there is no endpoint 'tiny'"):
        endpoint.set_weights("tiny", {"v1": 1})
    with pytest.raises(UnknownEndpoint, match="there is no endpoint 'tiny'"):
        endpoint.metrics("tiny")


def test_stopped_endpoint_comes_back_as_it_was(endpoint: Endpoint, spec: Make, target: Target) -> None:
    before = endpoint.apply(spec({1: 70, 2: 30}, stable=2))
    assert before.stable == "v2"
    endpoint.stop("tiny")
    assert target.runs(0)
    assert target.is_silent(before.url)
    stopped = endpoint.status("tiny")
    assert stopped is not None
    assert not stopped.ready
    assert (stopped.url, stopped.stable) == (before.url, "v2")
    assert [(one.version, one.weight, one.ready) for one in stopped.predictors] == [(1, 70, False), (2, 30, False)]
    endpoint.stop("tiny")
    assert endpoint.status("tiny") == stopped
    with pytest.raises(EndpointNotReady):
        endpoint.set_weights("tiny", {"v1": 1})
    assert endpoint.status("tiny") == stopped
    assert target.runs(0)
    again = endpoint.apply(spec({1: 70, 2: 30}, stable=2))
    assert again.ready
    assert (again.url, again.stable) == (before.url, "v2")
    assert [(one.version, one.image, one.weight) for one in again.predictors] == [
        (one.version, one.image, one.weight) for one in before.predictors
    ]
    assert {version for _, version, _ in ask(again.url, 100)} == {"1", "2"}
    assert target.runs(2)


def test_delete_leaves_no_process(endpoint: Endpoint, spec: Make, target: Target) -> None:
    status = endpoint.apply(spec({1: 1, 2: 1}))
    assert target.runs(2)
    endpoint.delete("tiny")
    assert target.runs(0)
    assert endpoint.status("tiny") is None
    assert target.is_silent(status.url)
    assert endpoint.apply(spec({1: 1})).ready
