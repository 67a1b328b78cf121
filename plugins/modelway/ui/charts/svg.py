"""What all charts are made of: SVG within the page, where no style is inline and every text is escaped."""

import math
import unicodedata
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup


def svg(title: str, description: str, inside: Markup, *, width: int, height: int) -> Markup:
    """Return a picture with the text that a screen reader reads in its place."""
    head = Markup(
        '<svg class="chart" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" aria-label="{title}">'
        "<desc>{description}</desc>"
    )
    return head.format(w=width, h=height, title=title, description=description) + inside + Markup("</svg>")


def join(parts: Iterable[Markup]) -> Markup:
    """Return the parts as one."""
    return Markup("").join(parts)


def as_float(value: Any) -> float:
    """Return a chart's number: those that are not finite are stored as text, None stands for one that is not known."""
    return math.nan if value is None else float(value)


def shown(value: Any) -> str:
    """Write a number with four significant digits."""
    return f"{as_float(value):.4g}"


def breadth(text: str) -> float:
    """Return the width of a text in letters such as n, for a rather wide font."""
    return sum(
        1.65
        if letter in "mwMW@%" or unicodedata.east_asian_width(letter) in "WF"
        else 1.25
        if letter.isupper()
        else 1.0
        for letter in text
    )


def cut(text: str, most: int) -> str:
    """Return a text that is no wider than so many letters; an ellipsis marks a cut."""
    if breadth(text[: most + 1]) <= most:
        return text
    end = next(end for end in range(min(most, len(text)), -1, -1) if breadth(text[:end]) <= most - 1)
    return f"{text[:end]}…"


def short(value: float) -> str:
    """Write a number with few characters: 12345 is 12k."""
    size = abs(value)
    if not math.isfinite(value) or size < 10_000 or size >= 1e15:
        return f"{value:.4g}" if 1000 <= size < 10_000 else f"{value:.3g}"
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.{1 if size < 9.95 * unit else 0}f}{letter}"
    raise AssertionError(value)
