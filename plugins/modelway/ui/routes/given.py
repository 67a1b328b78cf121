"""What a request names, parsed: a time, a digest, where a list begins."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Query
from starlette.exceptions import HTTPException

from modelway.errors import ModelwayError
from modelway.lineage.records.times import parse_time

#: the number that the versions of a list are before; a database counts them in 32 bits
Before = Annotated[int | None, Query(ge=1, le=2_147_483_647)]

_Parsed = TypeVar("_Parsed")


def time_of(text: str) -> datetime | None:
    """Parse a time; None means now."""
    return parsed(parse_time, text) if text.strip() else None


def parsed(parse: Callable[[str], _Parsed], text: str) -> _Parsed:
    """Return what a user wrote, parsed, or answer 400."""
    try:
        return parse(text.strip())
    except ModelwayError as error:
        raise HTTPException(400, str(error)) from None
