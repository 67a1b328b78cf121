"""The axes of a chart: their ranges, where their ticks are and how these are written."""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from modelway.ui.charts.svg import cut, join

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 10, 42
#: how many ticks an axis has, about
TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The range of an axis; ``at`` returns where a value is on it, from 0 to 1."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return where a value is; halved, so that the distance of the greatest numbers stays finite."""
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)


def axis_over(values: Sequence[float], *, unit: bool = False, whole: bool = False, room: float = 0.0) -> Axis:
    """Return the axis over finite values.

    :param unit: it reaches from 0 to 1, whatever the values are
    :param whole: only whole numbers have ticks, such as steps
    :param room: the share of the distance that is left free at both ends
    """
    low, high = (0.0, 1.0) if unit else (float(min(values)), float(max(values)))
    if high / 2 - low / 2 <= max(abs(low) * 1e-12, 1e-300):
        reach = max(abs(low) * 0.01, 0.5)
        low, high = max(low - reach, -sys.float_info.max), min(high + reach, sys.float_info.max)
    elif room:
        low, high = low - room * (high - low), high + room * (high - low)
    return Axis(low=low, high=high, ticks=_ticks(low, high, whole=whole))


def _ticks(low: float, high: float, *, whole: bool) -> tuple[float, ...]:
    rough = (high / 2 - low / 2) / TICKS * 2
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step), math.floor(high / step)
    return tuple(number * step for number in range(first, last + 1))


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Write ticks, all in one unit: 20000 is 20k where the greatest has five digits or more."""
    most = max(map(abs, ticks), default=0.0)
    # From, divided by, and written as.
    units = ((1e15, 1.0, ""), (1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"), (0.0, 1.0, ""))
    unit, letter = next((unit, letter) for least, unit, letter in units if most >= least)
    apart = min((b - a for a, b in itertools.pairwise(ticks)), default=most) or 1.0
    digits = min(15, max(4, math.ceil(math.log10(max(most, apart) / apart)) + 2))
    return [f"{tick / unit:.{digits}g}{letter}" if abs(tick) > apart / 1e6 else "0" for tick in ticks]


def drawn_axes(across: Axis, up: Axis, *, x_label: str, y_label: str) -> Markup:
    """Return frame, grid, ticks and labels."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    line = Markup('<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    turned = Markup('<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>')
    parts = []
    for tick, label in zip(across.ticks, tick_texts(across.ticks), strict=True):
        x, _ = place(across, up, tick, up.low)
        parts += [line.format(x, TOP, x, bottom), text.format(x, bottom + 15, "middle", label)]
    for tick, label in zip(up.ticks, tick_texts(up.ticks), strict=True):
        _, y = place(across, up, across.low, tick)
        parts += [line.format(LEFT, y, right, y), text.format(LEFT - 5, y + 4, "end", label)]
    frame = Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>')
    parts.append(frame.format(LEFT, TOP, right - LEFT, bottom - TOP))
    if x_label:
        parts.append(text.format((LEFT + right) / 2, HEIGHT - 6, "middle", cut(x_label, 44)))
    if y_label:
        parts.append(turned.format((TOP + bottom) // 2, cut(y_label, 30)))
    return join(parts)


def place(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    """Return where a point is in the picture."""
    return LEFT + across.at(x) * (WIDTH - RIGHT - LEFT), TOP + (1 - up.at(y)) * (HEIGHT - BOTTOM - TOP)
