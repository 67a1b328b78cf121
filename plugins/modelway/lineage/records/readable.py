"""Numbers, times and digests as people read them, on pages and in tables: pure, standard library only."""

from datetime import UTC, datetime


def number_text(value: float | None, *, none: str = "-", digits: int = 4) -> str:
    """Write a number with some significant digits, a whole one in full; NaN and infinity by name."""
    if value is None:
        return none
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.{digits}g}"


def time_text(value: datetime | None, *, to: str = "minutes", zone: str = "Z", none: str = "-") -> str:
    """Write a time in UTC to the minute or the second."""
    if value is None:
        return none
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec=to) + zone


def digest_text(value: str | None, *, none: str = "-") -> str:
    """Shorten a digest to its first twelve digits."""
    return value.removeprefix("sha256:")[:12] if value else none


def bytes_text(value: int) -> str:
    """Write a size in the largest binary unit below it."""
    size, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{value} B" if unit == "B" else f"{size:.1f} {unit}"


def seconds_text(value: float | None, *, none: str = "-") -> str:
    """Write a length of time, exact below a minute."""
    if value is None:
        return none
    if value < 60:
        return f"{value:.3g} s"
    hours, rest = divmod(round(value), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def plural(count: int, word: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
