"""A point in time as people write it."""

from datetime import UTC, datetime

from modelway.errors import ModelwayError


def parse_time(text: str) -> datetime:
    """Read a time; a day means its end, so that what happened on that day counts, and no zone means UTC.

    :raises ModelwayError: it is not a time
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ModelwayError(
            f"'{text[:100]}' is not a time", do="Write 2026-03-01 or 2026-03-01T12:00:00+00:00"
        ) from None
    if len(text) <= len("2026-03-01"):
        time = time.replace(hour=23, minute=59, second=59, microsecond=999_999)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    try:
        # Near the first and the last year a zone leads out of what a time can be.
        time.astimezone(UTC)
    except OverflowError:
        raise ModelwayError(f"'{text[:100]}' is too far away to be a time", do="Write a year from 2 to 9998") from None
    return time
