"""Checks of single values, and how checks of parts make the check of a whole."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from modelway.fields.refusal import Refusal, shown

#: called with a value and whether it is final; returns the value to use, or raises a ``Refusal``
Check = Callable[[Any, bool], Any]
Checks = Mapping[str, Check]


def typed(annotation: Any) -> Check:
    """Return the check of a kind of value that the model spec has, such as ``modelway.spec.fields.Backend``."""

    # Created on first use: a DAG file needs few of them.
    adapter = cache(lambda: TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False)))

    def check(value: Any, final: bool) -> Any:
        try:
            # A rendered template is text; a list is accepted in place of the tuple that a spec has.
            return adapter().validate_python(tuple(value) if isinstance(value, list) else value, strict=not final)
        except ValidationError as error:
            from modelway.spec.check import refusal_of

            raise refusal_of(error.errors(include_url=False)[0]) from None

    return check


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda value, final: value if value is None else check(value, final)


def either(first: Check, second: Check) -> Check:
    """Return a check of values of two kinds; what is neither is refused with the second's message."""

    def check(value: Any, final: bool) -> Any:
        try:
            return first(value, final)
        except Refusal:
            return second(value, final)

    return check


def returned(by: str, *keys: str) -> Check:
    """Return the check of another operator's result.

    :param by: the operators that return it
    :param keys: the keys that it must have
    """

    def check(value: Any, final: bool) -> Any:
        # Not set yet: it may be set before the task runs.
        if value is None and not final:
            return value
        if not isinstance(value, Mapping):
            raise Refusal(f"expected what {by} returned, got {_short(value)}", do="Give the .output of that operator")
        if missing := [key for key in keys if key not in value] if final else ():
            what = f"expected what {by} returned, got a mapping without {', '.join(missing)}"
            raise Refusal(what, do="Give the .output of that operator")
        return value

    return check


def listed(of: str) -> Check:
    """Return the check of a list whose items are not read: Airflow fetches each result of a mapped task separately.

    :param of: what the items are, for messages
    """

    def check(value: Any, final: bool) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise Refusal(f"expected a list of {of}, got {_short(value)}", do="Give the .output of the operator")
        return value

    return check


def each(check: Check, *, of: str) -> Check:
    """Return the check of a list.

    :param of: what the items are, for messages
    """

    def check_all(value: Any, final: bool) -> Any:
        listed(of)(value, final)
        for index, item in enumerate(value):
            try:
                check(item, final)
            except Refusal as refusal:
                raise refusal.within(index) from None
        return value

    return check_all


def nested(check: Check, *, of: str) -> Check:
    """Return the check of an item, or of a list of such, of lists of lists and so on.

    :param of: what the items are, for messages
    """

    def check_any(value: Any, final: bool) -> Any:
        is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        return each(check_any, of=of)(value, final) if is_list else check(value, final)

    return check_any


def keyed(checks: Checks, *, hints: Mapping[str, str] | None = None) -> Check:
    """Return the check of a mapping with known keys, all of them optional.

    :param hints: what to do about common wrong keys
    """

    def check(value: Any, final: bool) -> Any:
        items = _mapping(value)
        for key, part in items.items():
            if key not in checks:
                do = (hints or {}).get(key)
                suggestion = None if do else str(key)
                raise Refusal("unknown key", known=checks, given=suggestion, do=do, at=(key,))
            try:
                checks[key](part, final)
            except Refusal as refusal:
                raise refusal.within(key) from None
        return value

    return check


def of_names(names: Check, values: Check) -> Check:
    """Return the check of a mapping from names to values of one kind."""

    def check(value: Any, final: bool) -> Any:
        for key, part in _mapping(value).items():
            try:
                names(key, final)
                values(part, final)
            except Refusal as refusal:
                raise refusal.within(key) from None
        return value

    return check


def mapping(value: Any, final: bool) -> Any:
    """Refuse a value that is not a mapping."""
    return _mapping(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refusal(f"expected a mapping, got {_short(value)}", do="Write {name: value}")
    return value


def _short(value: Any) -> str:
    plain = value is None or isinstance(value, str | int | float | Mapping | list | tuple)
    return shown(value) if plain else f"a {type(value).__name__}"
