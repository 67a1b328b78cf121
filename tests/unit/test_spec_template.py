"""Templates of data sets: what they may hold, and that whatever they hold they end soon."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.template import render_template

VALUES: dict[str, Any] = {
    "interval_start": datetime(2026, 1, 30, 3, tzinfo=UTC),
    "interval_end": datetime(2026, 1, 31, 3, tzinfo=UTC),
    "partition": "2026-01-30T03:00:00",
    "params": {"epochs": 4, "shard": "a", "deep": {"key": 1}},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("s3://lake/all", "s3://lake/all"),
        ("/data/{{ data_interval_end | ds }}\n", "/data/2026-01-31\n"),
        ("{{ data_interval_start|ds_nodash }}{{ data_interval_end|ts_nodash }}", "2026013020260131T030000"),
        ("{{ data_interval_end | ts }} {{ data_interval_end }}", "2026-01-31T03:00:00+00:00 2026-01-31T03:00:00+00:00"),
        ("{{ partition }}/{{ params.shard }}/{{ params['epochs'] }}", "2026-01-30T03:00:00/a/4"),
        ("{{ data_interval_end.strftime('%Y/%m') }}/{{ data_interval_end.year - 1 }}", "2026/01/2025"),
        ("{{ 'odd' if params.epochs == 3 else 'even' }}{{ params.shard | upper }}", "evenA"),
        ("{{ params.deep.key }}", "1"),
        ("{# nothing #}/data", "/data"),
    ],
)
def test_templates_are_filled_in(text: str, filled: str) -> None:
    assert render_template(text, **VALUES) == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ data_interval_ende }}", "is not known in a template. Known: .* Did you mean 'data_interval_end'"),
        (
            "{{ params.epoch }}",
            r"'epoch' is not a parameter of the run\. Known: deep, epochs, shard\. Did you mean 'epo",
        ),
        ("{{ params[partition] }}", "is not a parameter of the run"),
        ("{{ data_interval_end | dz }}", "'dz' is not a filter of templates"),
        ("{{ data_interval_end", "not a valid template"),
        ("{{ params.epochs | ds }}", "the filter ds takes a time, not 4"),
        ("{{ data_interval_end.nope }}", "has no attribute 'nope'"),
        ("{{ 1 - 'a' }}", "the template cannot be filled in"),
        ("{% set x = 1 %}", "templates of specs have no 'assign'"),
        ("{% include '/etc/passwd' %}", "templates of specs have no 'include'"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ ''['__class__'] }}", "unsafe"),
        ("{{ partition.format('a') }}", "'format' cannot be called"),
        ("{{ partition() }}", "'this' cannot be called"),
        ("{{ range(9) }}", "cannot be called"),
        ("x" * 3000 + "{{ partition }}", "more than 2000 characters"),
    ],
)
def test_what_is_no_usable_template_is_refused_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        render_template(text, **VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 999999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'x' | center(999999999) }}",
        "{{ partition.ljust(999999999) }}",
        "{{ partition.replace('', 'xxxxxxxx') }}",
        "{% for a in 'xxxxxxxx' %}{% for b in 'xxxxxxxx' %}{% endfor %}{% endfor %}",
        "{{ [1] * 99999999 }}",
        "{{ " + "(" * 900 + ")" * 900 + " }}",
        "{{ " + "-" * 1900 + "1 }}",
    ],
)
def test_a_template_that_would_grow_or_run_on_is_refused_at_once(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidSpec):
        render_template(text, **VALUES)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("name", ["data_interval_start", "partition"])
def test_a_run_without_an_interval_says_what_it_lacks(name: str) -> None:
    values = VALUES | {"interval_start": None, "partition": None}
    with pytest.raises(InvalidSpec, match=rf"the run has no {name}\. Give the model a schedule with a cron\."):
        render_template(f"{{{{ {name} | string }}}}", **values)
    assert render_template("{{ data_interval_end | ds }}", **values) == "2026-01-31"
