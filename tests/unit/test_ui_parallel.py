"""Lines across axes: where each value is, what interrupts a line, and what is left out."""

import math
import re

from modelway.ui.charts.parallel import (
    MOST_AXES,
    MOST_LINES,
    Line,
    differing,
    parallel_coordinates,
    scale_over,
)


def test_numbers_names_and_numbers_far_apart_have_a_scale_each() -> None:
    even = scale_over("layers", [2, 4, 3])
    assert [even.at(value) for value in (2, 3, 4, 4.0)] == [0.0, 0.5, 1.0, 1.0]
    far = scale_over("lr", [1e-5, 1e-1, 1e-3])
    assert far.is_log
    assert [round(far.at(value) or 0.0, 6) for value in (1e-5, 1e-3, 1e-1)] == [0.0, 0.5, 1.0]
    assert [text for _, text in far.ticks] == ["1e-05", "0.001", "0.1"]
    names = scale_over("optimizer", ["sgd", "adam", None, True, [1, 2]])
    assert [text for _, text in names.ticks] == ["True", "[1, 2]", "adam", "sgd"]
    assert names.at("sgd") == 1.0
    assert names.at("unknown") is None
    assert scale_over("same", [3, 3]).at(3) == 0.5
    assert scale_over("nothing", [None, math.nan]).ticks == ()


def test_the_greatest_numbers_have_a_place() -> None:
    scale = scale_over("loss", [-1.7e308, 1.7e308, 0.0])
    assert [scale.at(value) for value in (-1.7e308, 0.0, 1.7e308)] == [0.0, 0.5, 1.0]


def test_a_line_is_interrupted_where_it_has_no_value() -> None:
    whole = Line(name="v1", values={"a": 1, "b": 2, "c": 3, "d": 4})
    part = Line(name="v2", values={"a": 2, "b": math.nan, "c": 4, "d": 8})
    text = parallel_coordinates([whole, part], ["a", "b", "c", "d"], title="Versions")
    drawn = re.findall(r'<polyline class="(c\d)" points="([^"]+)"><title>', text)
    assert [(colour, len(points.split())) for colour, points in drawn] == [("c0", 4), ("c1", 2)]
    assert len(re.findall(r'<circle class="c1"', text)) == 1


def test_few_lines_are_named_and_many_are_shaded_by_the_last_axis() -> None:
    few = [Line(name=f"v{number}", values={"a": number, "b": -number}, href=f"/v{number}") for number in range(3)]
    text = parallel_coordinates(few, ["a", "b"], title="Versions")
    assert '<a href="/v2">v2</a>' in text
    many = [Line(name=f"v{number}", values={"a": number, "b": number}) for number in range(MOST_LINES + 5)]
    text = parallel_coordinates(many, ["a", "b"], title="Versions")
    assert text.count("<polyline class=") == MOST_LINES + 2
    assert f"{MOST_LINES:,} of {MOST_LINES + 5:,} lines are drawn" in text
    assert {"q0", "q4"} <= set(re.findall(r'"thin (q\d)" points="\d+,\d', text))
    wide = [Line(name="v1", values={f"p{n}": n for n in range(20)}), Line(name="v2", values={})]
    text = parallel_coordinates(wide, differing(wide), title="Versions")
    assert f"{MOST_AXES} of 20 axes are drawn" in text


def test_only_what_differs_has_an_axis() -> None:
    lines = [Line(name="v1", values={"lr": 1, "seed": 7, "only": 1}), Line(name="v2", values={"lr": 2, "seed": 7.0})]
    assert differing(lines) == ["lr", "only"]
    # What is None in one and is not set in the other has no value in either.
    assert differing([Line(name="v1", values={"a": None, "b": 1}), Line(name="v2", values={"b": math.nan})]) == ["b"]
    assert "needs two values that differ" in parallel_coordinates(lines, ["lr"], title="Versions")


def test_what_a_model_names_is_never_markup() -> None:
    evil = '"><script>alert(1)</script>'
    lines = [Line(name=evil, values={evil: evil, "b": 1}, note=evil, href=evil), Line(name="v2", values={"b": 2})]
    text = parallel_coordinates(lines, [evil, "b"], title=evil)
    assert "<script" not in text
    assert " style=" not in text
