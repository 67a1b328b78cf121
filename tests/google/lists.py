"""What the lists of Google's APIs share: pages, and filters over fields and labels."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.google.documents import Invalid

Item = Mapping[str, Any]
_TERM = re.compile(r'(?P<field>[\w.]+|labels\.[\w-]+)\s*(?P<sign>!=|<=|>=|=|:|<|>)\s*(?P<value>"[^"]*"|[^\s()]+)')


def page_of(
    items: Sequence[Item], *, key: str, query: Mapping[str, str], default: int = 100, most: int = 1000
) -> dict[str, Any]:
    """Return one page of a list, as the query's ``pageSize`` and ``pageToken`` want it."""
    size = int(query.get("pageSize") or 0)
    if size < 0:
        raise Invalid("Page size must be positive.")
    size = min(size or default, most)
    start = _start(query.get("pageToken", ""))
    answer: dict[str, Any] = {key: list(items[start : start + size])} if items[start : start + size] else {}
    if start + size < len(items):
        answer["nextPageToken"] = base64.urlsafe_b64encode(f"at {start + size}".encode()).decode()
    return answer


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).decode().removeprefix("at "))
    except ValueError as error:
        raise Invalid("The page token is invalid.") from error


def filtered(items: Sequence[Item], text: str) -> list[Item]:
    """Return the items that a filter of AIP-160 lets through: terms with AND, OR, NOT and brackets."""
    if not text.strip():
        return list(items)
    test = _Parser(text).whole()
    return [item for item in items if test(item)]


class _Parser:
    """OR binds tighter than AND, as AIP-160 has it."""

    def __init__(self, text: str) -> None:
        self._rest, self._text = text.strip(), text

    def whole(self) -> Callable[[Item], bool]:
        test = self._and()
        if self._rest:
            raise Invalid(f'Invalid filter: "{self._text}"')
        return test

    def _take(self, word: str) -> bool:
        if re.match(rf"{word}(?=[\s(])", self._rest):
            self._rest = self._rest[len(word) :].lstrip()
            return True
        return False

    def _and(self) -> Callable[[Item], bool]:
        parts = [self._or()]
        while self._take("AND"):
            parts.append(self._or())
        return lambda item: all(part(item) for part in parts)

    def _or(self) -> Callable[[Item], bool]:
        parts = [self._term()]
        while self._take("OR"):
            parts.append(self._term())
        return lambda item: any(part(item) for part in parts)

    def _term(self) -> Callable[[Item], bool]:
        if self._take("NOT"):
            inner = self._term()
            return lambda item: not inner(item)
        if self._rest.startswith("("):
            self._rest = self._rest[1:].lstrip()
            inner = self._and()
            if not self._rest.startswith(")"):
                raise Invalid(f'Invalid filter: "{self._text}"')
            self._rest = self._rest[1:].lstrip()
            return inner
        found = _TERM.match(self._rest)
        if not found:
            raise Invalid(f'Invalid filter: "{self._text}"')
        self._rest = self._rest[found.end() :].lstrip()
        field, sign, value = found["field"], found["sign"], found["value"].strip('"')
        return lambda item: _holds(_value(item, field), sign, value)


def _value(item: Item, field: str) -> Any:
    """Return a field by its name in the filter, ``create_time`` or ``createTime``; labels have names of any kind."""
    head, _, rest = field.partition(".")
    head = re.sub(r"_([a-z])", lambda found: found[1].upper(), head)
    found = item.get(head)
    return found.get(rest) if rest and isinstance(found, Mapping) else found


def _holds(found: Any, sign: str, value: str) -> bool:
    if sign == ":":
        pattern = re.escape(value).replace(r"\*", ".*")
        return found is not None and re.fullmatch(pattern, str(found)) is not None
    if sign == "=":
        return str(found if found is not None else "") == value
    if sign == "!=":
        return str(found if found is not None else "") != value
    if found is None:
        return False
    return {"<": str(found) < value, "<=": str(found) <= value, ">": str(found) > value, ">=": str(found) >= value}[
        sign
    ]
