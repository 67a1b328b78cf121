"""Parallel coordinates: an axis for each parameter and metric, and a line for each version or trial across them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from modelway.ui.charts.svg import cut, join, shown, svg

#: what one picture has at most; a page says what it leaves out
MOST_AXES, MOST_LINES = 12, 1_000
#: up to here each line has a colour of its own and an entry in the legend; more are coloured by their last axis
NAMED = 10
#: the colours along the last axis, from its lowest value to its highest
SHADES = 5
#: names of values that an axis has room for
MOST_NAMES = 14
#: of an axis over positive numbers so far apart the scale is logarithmic
FAR_APART = 100.0
APART, LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 118, 18, 86, 34, 14, 280
_FOOT = HEIGHT - BOTTOM


@dataclass(frozen=True, kw_only=True)
class Line:
    """A version or trial: its value on each axis that it has one on, by the axis's name."""

    name: str
    values: Mapping[str, Any]
    note: str = ""
    """its text in the legend"""
    href: str = ""
    """where its name in the legend leads"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where the values of one axis are, from 0 at its foot to 1; a value without a place interrupts its line."""

    name: str
    places: Mapping[Any, float]
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def at(self, value: Any) -> float | None:
        """Return where a value is; None: it has no place, such as NaN or a value that is not set."""
        return self.places.get(_key(value))


def scale_over(name: str, values: Sequence[Any]) -> Scale:
    """Return the scale over the values of an axis: of numbers, or of names where one of them is no number."""
    given = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return _numbers(name, [float(value) for value in given if math.isfinite(value)])
    return _names(name, given)


def differing(lines: Sequence[Line]) -> list[str]:
    """Return the axes on which the lines have more than one value, in the order in which they come first."""
    names = dict.fromkeys(name for line in lines for name in line.values)
    found = []
    for name in names:
        first = _placed(lines[0].values.get(name))
        if any(_placed(line.values.get(name)) != first for line in lines):
            found.append(name)
    return found


def parallel_coordinates(lines: Sequence[Line], axes: Sequence[str], *, title: str) -> Markup:
    """Return the lines across the axes with a legend; up to ten lines are named, more are shaded by the last axis.

    :param axes: the names of the values that have an axis, from left to right
    """
    drawn, shown_axes = lines[:MOST_LINES], axes[:MOST_AXES]
    if len(shown_axes) < 2 or not drawn:
        return Markup('<p class="soft">Nothing to draw: it needs two values that differ.</p>')
    scales = [scale_over(name, [line.values.get(name) for line in drawn]) for name in shown_axes]
    colours = _colours(drawn, scales[-1])
    parts = [_axis(place, scale) for place, scale in enumerate(scales)]
    parts += [_drawn(line, scales, colour) for line, colour in zip(drawn, colours, strict=True)]
    notes = []
    if len(axes) > MOST_AXES:
        notes.append(f"{MOST_AXES} of {len(axes):,} axes are drawn")
    if len(lines) > MOST_LINES:
        notes.append(f"{MOST_LINES:,} of {len(lines):,} lines are drawn")
    legend = _legend(drawn, colours, scales[-1], notes)
    described = f"{len(drawn):,} lines across {', '.join(shown_axes)}"
    width = LEFT + APART * (len(scales) - 1) + RIGHT
    return svg(title, cut(described, 1000), join(parts), width=width, height=HEIGHT) + legend


def _placed(value: Any) -> Any:
    """Return what equal values have in common; a value that is not set, or is None or NaN, has no place."""
    return None if value is None else _key(value)


def _key(value: Any) -> Any:
    """Return what equal values have in common: 1 and 1.0 are one, 1 and true are not; lists are their text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return float(value) if math.isfinite(value) else None


def _numbers(name: str, finite: Sequence[float]) -> Scale:
    known = sorted(set(finite))
    if not known:
        return Scale(name=name, places={}, ticks=())
    low, high = known[0], known[-1]
    if low == high:
        return Scale(name=name, places={low: 0.5}, ticks=((0.5, shown(low)),))
    is_log = low > 0 and high / low >= FAR_APART
    # Halved, so that the distance of the greatest numbers stays finite.
    begin, end = (math.log10(low) / 2, math.log10(high) / 2) if is_log else (low / 2, high / 2)

    def at(value: float) -> float:
        return ((math.log10(value) if is_log else value) / 2 - begin) / (end - begin)

    middle = 10 ** (begin + end) if is_log else begin + end
    ticks = tuple((at(value), shown(value)) for value in (low, middle, high))
    return Scale(name=name, places={value: at(value) for value in known}, ticks=ticks, is_log=is_log)


def _names(name: str, values: Sequence[Any]) -> Scale:
    known = sorted({_key(value): str(value) for value in values}.items(), key=lambda item: item[1])
    apart = max(1, len(known) - 1)
    places = {key: place / apart if len(known) > 1 else 0.5 for place, (key, _) in enumerate(known)}
    every = -(-len(known) // MOST_NAMES)
    ticks = tuple((places[key], text) for place, (key, text) in enumerate(known) if not place % every)
    return Scale(name=name, places=places, ticks=ticks)


def _axis(place: int, scale: Scale) -> Markup:
    x = LEFT + APART * place
    text = Markup('<text x="{}" y="{:.1f}">{}</text>')
    title = Markup('<text class="name" x="{}" y="14">{}<title>{}</title></text>')
    name = f"{scale.name}, log" if scale.is_log else scale.name
    parts = [
        Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x, TOP, x, _FOOT),
        title.format(x - LEFT + 4, cut(name, 13), name),
    ]
    parts += [text.format(x + 5, _y(at) + 4, cut(label, 10)) for at, label in scale.ticks]
    return join(parts)


def _y(at: float) -> float:
    return _FOOT - at * (_FOOT - TOP)


def _drawn(line: Line, scales: Sequence[Scale], colour: str) -> Markup:
    pieces: list[list[str]] = [[]]
    for place, scale in enumerate(scales):
        at = scale.at(line.values.get(scale.name))
        if at is not None:
            pieces[-1].append(f"{LEFT + APART * place},{_y(at):.1f}")
        elif pieces[-1]:
            pieces.append([])
    # Of many lines, the values of each would be most of the page.
    described = scales[-1:] if "thin" in colour else scales
    title = "; ".join([line.name, *(f"{each.name} {_value(line.values.get(each.name))}" for each in described)])
    about = Markup("<title>{}</title>").format(cut(title, 500))
    path = Markup('<polyline class="%s" points="%s">%s</polyline>')
    dot = Markup('<circle class="%s" cx="%s" cy="%s" r="3">%s</circle>')
    return join(
        path % (colour, " ".join(piece), about) if len(piece) > 1 else dot % (colour, *piece[0].split(","), about)
        for piece in pieces
        if piece
    )


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return shown(value) if isinstance(value, float) else str(value)


def _colours(lines: Sequence[Line], last: Scale) -> list[str]:
    if len(lines) <= NAMED:
        return [f"c{number}" for number in range(len(lines))]
    places = [last.at(line.values.get(last.name)) for line in lines]
    return ["thin none" if at is None else f"thin q{min(SHADES - 1, int(at * SHADES))}" for at in places]


def _legend(lines: Sequence[Line], colours: Sequence[str], last: Scale, notes: Sequence[str]) -> Markup:
    key = Markup(
        '<li><svg class="key" width="18" height="8" aria-hidden="true"><polyline class="{}" points="0,4 18,4"/>'
    )
    rest = Markup('</svg>{} <span class="soft">{}</span></li>')
    link, plain = Markup('<a href="{}">{}</a>'), Markup("<span>{}</span>")
    entries = []
    if len(lines) <= NAMED:
        for line, colour in zip(lines, colours, strict=True):
            name = link.format(line.href, cut(line.name, 60)) if line.href else plain.format(cut(line.name, 60))
            entries.append(key.format(colour) + rest.format(name, line.note))
    elif last.ticks:
        ends = (("thin q0", last.ticks[0][1]), (f"thin q{SHADES - 1}", last.ticks[-1][1]))
        entries = [key.format(colour) + rest.format(f"{last.name} {cut(text, 40)}", "") for colour, text in ends]
    entries += [Markup('<li class="soft">{}</li>').format(note) for note in notes]
    return Markup('<ul class="legend">{}</ul>').format(join(entries))
