"""Parameters of a run: names, types (those of the defaults) and bounds (which the defaults respect)."""

import keyword
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from modelway.fields.refusal import Refusal, shown

#: the fields of the trigger form of every model
RESERVED = ("base", "environment", "hold_at", "reason", "rollout", "seed", "skip", "version")
MOST_CHOICES = 100


def _param_name(value: str) -> str:
    if not value.isidentifier() or keyword.iskeyword(value) or len(value) > 100:
        do = "Use letters, digits and '_', as for a variable of Python, at most 100"
        raise Refusal(f"{shown(value)} cannot be the name of a parameter", do=do)
    if value in RESERVED:
        what = f"every run has a parameter '{value}' already"
        raise Refusal(what, do=f"Choose another name than {', '.join(RESERVED)}")
    return value


def _scalar(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise Refusal(f"expected text, a number, true or false, got {shown(value)}")
    return value


def _number(value: object) -> object:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Refusal(f"expected a number, got {shown(value)}")
    return value


def _choices(values: Sequence[object]) -> Sequence[object]:
    if not values:
        raise Refusal("must not be empty")
    if len(values) > MOST_CHOICES:
        raise Refusal(f"has more than {MOST_CHOICES} entries")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise Refusal(f"{shown(value)} is in the list already", at=(index,))
    return values


def kind_of(value: object) -> str:
    """Return the name of the type of a parameter's value."""
    if isinstance(value, bool):
        return "true or false"
    return {int: "a whole number", float: "a number"}.get(type(value), "text")


def fits(value: object, default: object) -> bool:
    """Return whether a value has the type of the default; a whole number is a number, too."""
    return kind_of(value) == kind_of(default) or (type(default) is float and type(value) is int)


def check_param(default: Any, *, minimum: Any, maximum: Any, choices: tuple[Any, ...] | None) -> None:
    """Check bounds and choices against the default and each other.

    :raises Refusal: they contradict
    """
    bounds = {"minimum": minimum, "maximum": maximum}
    for key, bound in bounds.items():
        if bound is None:
            continue
        if kind_of(default) not in ("a number", "a whole number"):
            raise Refusal(f"only numbers have bounds, and the default {shown(default)} is none", at=(key,))
        if not fits(bound, default):
            what = f"expected {kind_of(default)}, as the default {shown(default)} is, got {shown(bound)}"
            raise Refusal(what, at=(key,), do=f"Write default: {float(default)} for a parameter with fractions")
        if choices is not None:
            raise Refusal("choices leave nothing to bound", at=(key,), do=f"Remove {key} or choices")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise Refusal(f"is less than the minimum {shown(minimum)}", at=("maximum",))
    if minimum is not None and default < minimum:
        raise Refusal(f"{shown(default)} is less than the minimum {shown(minimum)}", at=("default",))
    if maximum is not None and default > maximum:
        raise Refusal(f"{shown(default)} is more than the maximum {shown(maximum)}", at=("default",))
    if choices is not None:
        _check_choices(default, choices)


def _check_choices(default: object, choices: tuple[object, ...]) -> None:
    if isinstance(default, bool):
        raise Refusal("true and false are choices enough", at=("choices",), do="Remove choices")
    for index, choice in enumerate(choices):
        if not fits(choice, default):
            what = f"expected {kind_of(default)}, as the default {shown(default)} is, got {shown(choice)}"
            raise Refusal(what, at=("choices", index))
    if default not in choices:
        raise Refusal(f"{shown(default)} is not a choice", known=map(str, choices), given=str(default), at=("default",))


# Without \w, which in the regular expressions of editors, JavaScript's, matches only ASCII letters.
_SIGNS = r"\s!-/:-@\[-^`{-~"
ParamName = Annotated[
    str,
    AfterValidator(_param_name),
    WithJsonSchema({"type": "string", "pattern": rf"^[^\d{_SIGNS}][^{_SIGNS}]{{0,99}}$"}),
]
Scalar = Annotated[Any, BeforeValidator(_scalar), WithJsonSchema({"type": ["boolean", "integer", "number", "string"]})]
Number = Annotated[Any, BeforeValidator(_number), WithJsonSchema({"type": ["integer", "number"]})]
Choices = Annotated[
    tuple[Annotated[Any, BeforeValidator(_scalar), WithJsonSchema({"type": ["integer", "number", "string"]})], ...],
    Field(strict=False),
    AfterValidator(_choices),
]
