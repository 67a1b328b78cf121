"""Templates in a spec's data sets, such as ``s3://bucket/{{ data_interval_end | ds }}``.

Lint checks them, a run fills them in.

A small part of Jinja's language: names, attributes, items, a few filters and methods, no statements. Such a template
always ends soon, and its result stays small.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from modelway.errors import InvalidSpec
from modelway.fields.refusal import Refusal, shown

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

LONGEST = 2_000
_SYNTAX_HINT = "Write values between {{ and }}, such as {{ data_interval_end | ds }}"
_HINT = "Write values alone, such as {{ data_interval_end | ds }}"
#: names that a template may use
NAMES = ("data_interval_end", "data_interval_start", "params", "partition")
#: those of them that only a run with its own interval has
INTERVAL_NAMES = ("data_interval_start", "partition")

_FORMATS = {"ds": "%Y-%m-%d", "ds_nodash": "%Y%m%d", "ts_nodash": "%Y%m%dT%H%M%S"}
FILTERS = ("ds", "ds_nodash", "int", "lower", "string", "ts", "ts_nodash", "upper")
METHODS = ("date", "isoformat", "lower", "strftime", "upper")
# Each of them returns a value not much larger than its operands: no repetition, no padding, no loop.
_USABLE = (
    *("Template", "Output", "TemplateData", "Name", "Const", "Getattr", "Getitem", "Filter", "Call", "Keyword"),
    *("CondExpr", "Compare", "Operand", "And", "Or", "Not", "Add", "Sub", "Neg", "Concat"),
)


def is_template(text: str) -> bool:
    """Return whether a text contains anything to fill in."""
    return any(mark in text for mark in ("{{", "{%", "{#"))


def render_template(
    text: str,
    *,
    interval_start: datetime | None,
    interval_end: datetime,
    partition: str | None,
    params: Mapping[str, Any],
) -> str:
    """Return the text with its templates filled in.

    :param interval_start: start of the run's data interval, None where the run has none
    :param partition: the run's name for its interval, None where it has none
    :param params: the run's parameters
    :raises InvalidSpec: it is not a valid template, or the run lacks a value that it uses
    """
    if not is_template(text):
        return text
    values = {
        "data_interval_start": interval_start,
        "data_interval_end": interval_end,
        "partition": partition,
        "params": params,
    }
    try:
        names_of(text, params=params)
        return fill(text, {name: value for name, value in values.items() if value is not None})
    except Refusal as refusal:
        suggestion = refusal.suggestion  # nearest to itself
        raise InvalidSpec(
            refusal.what, where=shown(text), known=refusal.known, given=suggestion, do=refusal.do
        ) from None


def names_of(text: str, *, params: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that a template uses.

    :raises Refusal: its syntax is wrong, or it uses unknown names
    """
    if len(text) > LONGEST:
        raise Refusal(f"the template has more than {LONGEST} characters")
    found = set()
    for node in _nodes(_parsed(text)):
        _check(node, params)
        if type(node).__name__ == "Name":
            found.add(str(getattr(node, "name", "")))
    return frozenset(found)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """Return the text with these values filled in.

    :raises Refusal: a value is missing, or cannot be used as the template uses it
    """
    from jinja2 import UndefinedError

    try:
        return _compiled(text).render(values)
    except UndefinedError as error:
        missing = next((name for name in NAMES if name not in values and f"'{name}' is undefined" in str(error)), None)
        what = f"the run has no {missing}" if missing else f"the template cannot be filled in: {str(error).rstrip('.')}"
        raise Refusal(what, do="Give the model a schedule with a cron" if missing else None) from None
    # A template's methods and operators can fail in any way: each failure is the template's.
    except Exception as error:
        raise Refusal(f"the template cannot be filled in: {str(error).rstrip('.')}") from None


def check_syntax(text: str) -> None:
    """Check only the syntax of a template, not its names.

    :raises Refusal: Jinja cannot read it
    """
    if is_template(text):
        _parsed(text)


@lru_cache(maxsize=256)
def _compiled(text: str) -> "Template":
    """Return a template that can be filled in; many specs have the same, and a spec is read more than once."""
    return _environment().from_string(text)


@cache
def _environment() -> "SandboxedEnvironment":
    # Jinja is imported for the first template: most specs have none.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_written, autoescape=False
    )
    environment.globals.clear()
    environment.filters |= {name: _formatter(name, pattern) for name, pattern in _FORMATS.items()}
    environment.filters["ts"] = _timestamp
    return environment


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _formatter(name: str, pattern: str) -> Any:
    def format_time(value: Any) -> str:
        return _time(value, name).strftime(pattern)

    return format_time


def _timestamp(value: Any) -> str:
    return _time(value, "ts").isoformat()


def _time(value: Any, name: str) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"the filter {name} takes a time, not {shown(value)}")
    return value


def _parsed(text: str) -> "nodes.Template":
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().parse(text)
    except TemplateSyntaxError as error:
        raise Refusal(f"not a valid template: {(error.message or '').rstrip('.')}", do=_SYNTAX_HINT) from None
    except RecursionError:
        raise Refusal("not a valid template: nested too deep") from None


def _nodes(root: "nodes.Node") -> Iterator["nodes.Node"]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(list(node.iter_child_nodes()))


def _check(node: "nodes.Node", params: Mapping[str, Any]) -> None:
    """Refuse forbidden syntax and unknown names in a template."""
    kind = type(node).__name__
    if kind not in _USABLE:
        raise Refusal(f"templates of specs have no '{kind.lower()}'", do=_HINT)
    name = str(getattr(node, "name", ""))
    if kind == "Name" and name not in NAMES:
        do = f"Write data_interval_start | {name}" if name in FILTERS else None
        raise Refusal(f"{shown(name)} is not known in a template", known=NAMES, given=name, do=do)
    if kind == "Filter" and name not in FILTERS:
        raise Refusal(f"{shown(name)} is not a filter of templates", known=FILTERS, given=name)
    if kind == "Call":
        _check_call(node)
    if kind in ("Getattr", "Getitem"):
        _check_param(node, params)


def _check_call(node: Any) -> None:
    method = getattr(node.node, "attr", None)
    if method not in METHODS:
        raise Refusal(f"{shown(method or 'this')} cannot be called in a template", known=METHODS, given=method)


def _check_param(node: Any, params: Mapping[str, Any]) -> None:
    if getattr(node.node, "name", None) != "params" or type(node.node).__name__ != "Name":
        return
    key = node.attr if hasattr(node, "attr") else getattr(node.arg, "value", None)
    if key not in params:
        known = sorted(params)
        raise Refusal(f"{shown(key)} is not a parameter of the run", known=known, given=str(key))
