"""Names that must be safe elsewhere: the same for the same thing, different for different things, short enough."""

import re

import pytest
from modelway import names

LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
LONG = "scheduled__2026-11-20T14:15:53.123456+00:00"


def test_a_safe_word_stays_as_it_is():
    assert names.slug("digits-2") == "digits-2"


@pytest.mark.parametrize(
    "text", ["Digits", "a_b", "a b", LONG, "x" * 41, "évaluer", "日本", "", "-", "../../etc", "a/b"]
)
def test_every_text_becomes_a_safe_word(text):
    word = names.slug(text)
    assert LABEL.match(word)
    assert len(word) <= 40
    assert word == names.slug(text)


def test_texts_that_look_alike_share_no_slug():
    texts = ["a_b", "a b", "a-b", "A-b", "a--b", "-a-b", "a/b", "", "-", "_", "日本", "日", "x" * 41, "x" * 42]
    assert len({names.slug(text) for text in texts}) == len(texts)


def test_a_slug_keeps_its_limit():
    assert len(names.slug(LONG, limit=20)) <= 20
    assert names.slug(LONG, limit=20) != names.slug(LONG + "1", limit=20)


def test_a_job_name_is_a_dns_label_and_follows_from_what_the_job_is():
    asked = {"model": "m" * 60, "run": LONG, "stage": "evaluate/train-000003", "attempt": 12345}
    name = names.job_name(**asked)
    assert LABEL.match(name)
    assert name == names.job_name(**asked)


def test_job_names_differ_with_every_part():
    asked = {"model": "digits", "run": "r1", "stage": "train", "attempt": 1}
    others = [{"model": "digit"}, {"run": "r2"}, {"stage": "Train"}, {"attempt": 2}]
    found = {names.job_name(**{**asked, **other}) for other in [{}, *others]}
    assert len(found) == len(others) + 1


def test_parts_that_run_into_one_another_give_other_names():
    first = names.job_name(model="a", run="b-c", stage="d", attempt=1)
    assert first != names.job_name(model="a", run="b", stage="c-d", attempt=1)


@pytest.mark.parametrize("name", ["a", "digits", "digits-2", "0a", "a" * 40])
def test_valid_model_names(name):
    assert re.match(names.NAME_PATTERN, name)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 41, "a.b", "a/b"])
def test_invalid_model_names(name):
    assert not re.match(names.NAME_PATTERN, name)


def test_the_nearest_word_is_found_and_a_far_one_is_not():
    known = ["docker", "kubernetes", "local"]
    assert names.nearest("kubernets", known) == "kubernetes"
    assert names.nearest("LOCAL", known) == "local"
    assert names.nearest("spark", known) is None
    assert names.nearest("x", []) is None
