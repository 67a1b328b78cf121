"""The charts of a version: what is drawn, and that the numbers shown are those of the record."""

import re

import pytest
from modelway.lineage.records.version import FigureRecord, ImportanceRecord, MetricSeries
from modelway.ui.charts.bars import importance_bars
from modelway.ui.charts.figures import chart, training_charts

from tests.page_samples import predicted


def test_charts_of_every_kind_are_drawn_and_hold_no_markup_of_a_model() -> None:
    evil = "<script>🙂" + "x" * 400
    curves = {"curves": [{"name": evil, "x": [0, 1, 2], "y": ["nan", 1.5, 2], "area": "NaN"}], "undefined": [evil]}
    several = {"curves": [{"name": "a", "x": [0, 1], "y": [0, 1], "area": 0.75}] * 9, "area": 0.5, "error": 0.01}
    for kind, data, part in (
        ("line", curves, "<polyline"),
        ("roc", several, '>a</span> <span class="soft">AUC 0.75</span>'),
        ("calibration", several, "expected calibration error 0.01"),
        ("pr", {"x": [0, 1], "y": [1, 0.5]}, "<polyline"),
        ("bars", {"names": [evil, "b"], "values": [-1, "inf"]}, 'class="bar below"'),
        ("matrix", {"rows": [evil], "columns": [evil], "values": [["nan"]]}, 'class="cell"'),
        (
            "confusion",
            {"rows": ["0"] * 50, "columns": ["0"] * 50, "values": [[1] * 50] * 50},
            "<title>true 0, said 0: 1, 2 % of the row</title>",
        ),
        ("line", {"x": [], "y": []}, "Nothing to draw"),
        ("line", {"x": [1]}, "cannot be drawn"),
        ("pie", {evil: 1}, "cannot be drawn"),
    ):
        text = str(chart(FigureRecord(name=evil, kind=kind, data=data)))
        assert part in text, (kind, text[:500])
        assert "<script" not in text
        assert " style=" not in text


def test_a_figure_that_is_too_large_is_reported_and_not_drawn() -> None:
    names, points = ["0"] * 400, list(range(30_000))
    for kind, data, part in (
        ("matrix", {"rows": names, "columns": names, "values": [[1] * 400] * 400}, "160,000 cells"),
        ("bars", {"names": names * 10, "values": [1] * 4000}, "4,000 bars"),
        ("line", {"curves": [{"x": points, "y": points}]}, "30,000 points"),
        ("line", {"x": points, "y": points}, "30,000 points"),
    ):
        text = str(chart(FigureRecord(name="a", kind=kind, data=data)))
        assert part in text
        assert len(text) < 200


def test_a_curve_is_interrupted_where_a_value_is_not_finite_and_the_legend_says_so() -> None:
    nan, inf = float("nan"), float("inf")
    coarse = MetricSeries(stage="coarse", name="loss", steps=(0, 1, 2, 3, 4, 5), values=(4.0, 3.0, nan, 2.0, 1.0, inf))
    fine = MetricSeries(stage="fine", name="loss", steps=(10, 20), values=(0.5, 0.25))
    none = MetricSeries(stage="fine", name="gone", steps=(1, 2), values=(nan, nan))
    (gone, empty), (loss, drawn) = training_charts([coarse, none, fine])
    assert (gone, loss) == ("gone", "loss")
    assert "Nothing to draw" in empty
    assert "nan at step 2; 2 of 2 not finite: nan at 1, nan at 2" in empty
    assert re.findall('<polyline class="c([01])" points="[^"]*"><title>', drawn) == ["0", "0", "1"]
    assert "inf at step 5; 2 of 6 not finite: nan at 2, inf at 5" in drawn
    assert "0.25 at step 20" in drawn


def test_a_long_curve_keeps_its_ends_and_its_extremes() -> None:
    values = [1.0] * 100_000
    values[0], values[41_234], values[77_777], values[-1] = 0.5, 9.0, -9.0, 0.25
    ((_, drawn),) = training_charts(
        [MetricSeries(stage="s", name="loss", steps=tuple(range(100_000)), values=tuple(values))]
    )
    ((points),) = re.findall('points="([^"]*)"><title>', str(drawn))
    up = [float(point.split(",")[1]) for point in points.split()]
    assert len(up) <= 400
    # The highest value and the lowest one are as far apart as the axis is long but for its room.
    assert max(up) - min(up) == pytest.approx(198 / 1.08, abs=0.2)


@pytest.mark.parametrize(
    "values",
    [
        [-1.7e308, 1.7e308],
        [0.0, 5e-324],
        [1e300, 1e300],
        [1.7976931348623157e308] * 2,
        [1e15, 1e15 + 1],
        [0.1, 0.1],
        [-1e-9, 1e-9],
        [3],
        [10**400, 1],
    ],
)
def test_numbers_of_every_size_are_drawn_within_the_picture(values: list[float]) -> None:
    data = {"x": list(range(len(values))), "y": values}
    bars = {"names": list(map(str, values)), "values": values}
    for text in (
        str(chart(FigureRecord(name="f", kind="line", data=data))),
        str(chart(FigureRecord(name="f", kind="line", data={"x": values, "y": values}))),
        str(chart(FigureRecord(name="f", kind="bars", data=bars))),
    ):
        if max(values) > 1e309:
            assert "cannot be drawn" in text
            continue
        numbers = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]+)"', text)
        numbers += " ".join(re.findall(r' points="([^"]+)"', text)).replace(",", " ").split()
        assert [each for each in numbers if not -1 <= float(each) <= 400] == []


def test_the_charts_tell_the_numbers_that_the_record_has() -> None:
    for classes in (2, 3):
        for figure in predicted(classes=classes, rows=200):
            text = str(chart(figure))
            reported = re.findall(r">(?:AUC|AP) ([0-9.]+)", text)
            assert reported == [f"{curve['area']:.4g}" for curve in figure.data.get("curves", []) if "area" in curve]
            if figure.kind == "confusion":
                cells = re.findall('<text class="number"[^>]*>([0-9]+)<', text)
                assert list(map(int, cells)) == [value for row in figure.data["values"] for value in row]
                right = sum(figure.data["values"][place][place] for place in range(classes))
                assert f"{right} of 200 are on the diagonal" in text
            if figure.kind == "calibration":
                assert f"expected calibration error {figure.data['error']:.4g}" in text
                assert text.count("<circle") == len(figure.data["curves"][0]["x"])


def test_numbers_of_a_matrix_fit_their_cells() -> None:
    values = [[9999, 12_345, 9_950_000, -1e300], [0.12345, "nan", "inf", 1234.5]]
    data = {"rows": ["a", "b"], "columns": list("abcd"), "values": values}
    text = str(chart(FigureRecord(name="m", kind="matrix", data=data)))
    cells = re.findall('<text class="number"[^>]*>([^<]*)<', text)
    assert cells == ["9999", "12k", "10M", "…", "0.123", "–", "inf", "1234"]
    assert "a → d: -1e+300" in text


def test_more_curves_than_colours_can_be_distinguished() -> None:
    curves = [{"name": str(number), "x": [0, 1], "y": [0, number]} for number in range(21)]
    text = str(chart(FigureRecord(name="f", kind="line", data={"curves": curves})))
    looks = re.findall('<polyline class="([^"]+)" points="[^"]*"><title>', text)
    assert len(set(looks)) == len(looks) == 21


def test_importances_are_reported_whole_with_the_less_important_ones_folded_away() -> None:
    names = [f"feature {number} <b>" for number in range(40)]
    shown = str(
        importance_bars(
            [
                ImportanceRecord(
                    checkpoint="c", feature=name, importance=1 / (place + 1) - 0.1, deviation=0.5 / (place + 1)
                )
                for place, name in enumerate(names)
            ]
        )
    )
    assert re.findall('<th scope="row">([^<]+)</th>', shown) == [name.replace("<b>", "&lt;b&gt;") for name in names]
    assert "<summary>10 less important</summary>" in shown
    lines = re.findall('class="(?:spread|zero)" x1="([^"]+)" y1="[^"]+" x2="([^"]+)"', shown)
    assert len(lines) == 80
    assert all(0 <= float(begin) <= float(end) <= 100 for begin, end in lines)
    assert importance_bars([])


def test_stages_are_drawn_one_after_the_other_with_a_mark_where_each_begins() -> None:
    fine = MetricSeries(stage="fine", name="loss", steps=(1, 2), values=(2.0, 1.0))
    coarse = MetricSeries(stage="warmup", name="loss", steps=(1, 2, 3), values=(4.0, 3.0, 2.0))
    ((_, drawn),) = training_charts([fine, coarse], ["warmup", "fine"])
    first, second = re.findall('<polyline class="c[01]" points="([^"]*)"><title>', str(drawn))
    across = [[float(point.split(",")[0]) for point in points.split()] for points in (first, second)]
    assert across[0][-1] < across[1][0]
    ((mark),) = re.findall('<polyline class="guide" points="([^"]*)"><title>fine begins</title>', str(drawn))
    assert {float(point.split(",")[0]) for point in mark.split()} == {across[0][-1]}
    assert "1 at step 2 (5 of all)" in drawn
    assert "step of all stages" in drawn
    # One that counts on from the stage before stays where it is.
    ((_, on),) = training_charts([coarse, MetricSeries(stage="fine", name="loss", steps=(4, 5), values=(2.0, 1.0))])
    assert "1 at step 5<" in on.replace("</span>", "<")
