"""Operators' arguments are checked while the DAG is parsed, as far as they are known, and again when a task runs.

The checks of single values are those of the model spec, so that both refuse a value with the same message.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from airflow.sdk import literal
from pydantic import ValidationError

import modelway
from modelway import ports
from modelway.errors import InvalidArgument
from modelway.fields.refusal import Refusal
from modelway.operators._checks import Checks
from modelway.spec.problems import display, dotted, problem_of

_LITERAL = type(literal(None))
_TEMPLATE = ("{{", "{%", "{#")
_UNKNOWN = object()
_unchecked: ContextVar[bool] = ContextVar("unchecked", default=False)


@contextmanager
def checked_by_the_spec() -> Iterator[None]:
    """Make operators whose arguments are those of a model spec, which was checked already."""
    token = _unchecked.set(True)
    try:
        yield
    finally:
        _unchecked.reset(token)


def check_arguments(operator: Any) -> None:
    """Check the arguments of an operator while its DAG is parsed; values known only when the task runs pass.

    :raises InvalidArgument: the message has a line for each argument that cannot be right, with its place in the DAG
    """
    # A mapped task is created again from its arguments when it runs.
    if _unchecked.get() or getattr(operator, "_BaseOperator__from_mapped", False):
        return
    arguments = {name: getattr(operator, name) for name in operator.accepts}
    _refuse_all(operator, _refused(arguments, operator.accepts) or list(operator.conflicts()))


def check_partial(kind: type, arguments: Mapping[str, Any]) -> None:
    """Check the arguments that all tasks of a mapped operator share, see ``check_arguments``.

    :raises InvalidArgument: as for ``check_arguments``
    """
    if _unchecked.get():
        return
    _refuse_all(_Partial(kind, arguments), _refused(arguments, kind.accepts))  # type: ignore[attr-defined]


def check_mapped(kind: type, shared: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
    """Check what a mapped operator is mapped over, item by item.

    :param shared: the arguments that all tasks share
    :param mapped: by argument, the list of its values, or what yields them when the task runs
    :raises InvalidArgument: as for ``check_arguments``
    """
    if _unchecked.get():
        return
    checks: Checks = kind.accepts  # type: ignore[attr-defined]
    refused = []
    for name in sorted(mapped.keys() & checks.keys()):
        try:
            if not isinstance(values := mapped[name], list):
                _known(values)
                continue
            for index, value in enumerate(values):
                refused += [(name, one.within(index)) for _, one in _refused({name: value}, checks)]
        except Refusal as refusal:
            refused.append((name, refusal))
    operator = _Partial(kind, shared)
    _refuse_all(operator, refused or list(kind.mapped_conflicts(shared, operator.dag)))  # type: ignore[attr-defined]


def refuse_unknown(kind: type, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that an operator does not have, with the nearest one that it has.

    :raises InvalidArgument: there are such arguments
    """
    if _unchecked.get():
        return
    # Airflow creates a mapped task with a keyword of its own.
    unknown = sorted(name for name in arguments.keys() - _parameters(kind) if not name.startswith("_airflow_"))
    if unknown:
        own = tuple(kind.accepts)  # type: ignore[attr-defined]
        refused = [(name, Refusal("is no argument of the operator", known=own, given=name)) for name in unknown]
        _refuse_all(_Partial(kind, arguments), refused)


def check_final(operator: Any) -> None:
    """Check the arguments of a task that runs, templates filled in; a number that a template gave as text becomes one.

    :raises InvalidArgument: as for ``check_arguments``
    """
    refused = []
    for name, check in getattr(operator, "accepts", {}).items():
        value = getattr(operator, name)
        try:
            checked = check(value.value if isinstance(value, _LITERAL) else value, True)
        except Refusal as refusal:
            refused.append((name, refusal))
        else:
            if isinstance(value, str) and isinstance(checked, int | float):
                setattr(operator, name, checked)
    _refuse_all(operator, refused, place=False)


def is_known(value: Any) -> bool:
    """Return whether a value is the one that the task will have, while its DAG is parsed."""
    return _known(value) is not _UNKNOWN


def same_source(one: Any, other: Any) -> bool:
    """Return whether two arguments are what the same task returns, or are equal."""
    if hasattr(one, "operator") and hasattr(other, "operator"):
        return (one.operator, getattr(one, "key", None)) == (other.operator, getattr(other, "key", None))
    return bool(one == other)


def platform_refusals(port: str, *, name: str, value: object) -> Iterator[tuple[str, Refusal]]:
    """Refuse settings that a port member's section does not accept, as far as member and ``platform`` are known."""
    settings = _known(value)
    if not isinstance(settings, Mapping) or not is_known(name) or name not in ports.known(port):
        return
    member = ports.load(port, name)
    if member.section is None:
        if settings:
            yield "platform", Refusal(f"'{name}', {ports.PORTS[port]}, has no settings of its own", do="Remove it")
        return
    from modelway.spec.check import refusal_of

    section = member.section()
    try:
        section.model_validate(settings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            # The value of a template is missing until the task runs.
            if detail["type"] == "extra_forbidden":
                key = str(detail["loc"][-1])
                at, known = tuple(map(str, detail["loc"])), sorted(section.model_fields)
                yield "platform", Refusal("unknown key", at=at, known=known, given=key)
            elif detail["type"] != "missing":
                yield "platform", refusal_of(detail)


def serving_refusals(target: object, serving: object, platform: object = None) -> Iterator[tuple[str, Refusal]]:
    """Refuse settings of ``serving`` that its target cannot serve with its section, as far as all are known."""
    from modelway.spec.serving_rules import refused_by_target

    settings, section = _known(serving), _known(platform)
    if isinstance(settings, Mapping | None) and isinstance(section, Mapping | None) and is_known(target):
        own = {} if section is None else {str(target): section}
        for path, refusal in refused_by_target({**(settings or {}), "target": target, **own}):
            if path[0] in (target, "target"):
                yield "platform", refusal
                continue
            for key in reversed(path):
                refusal = refusal.within(key)
            yield "serving", refusal


def unused_params(operator: Any) -> list[tuple[str, Refusal]]:
    """Refuse ``params``, which are Airflow's, where ``job_params`` must be meant: nothing of the operator uses them."""
    dag = operator.get_dag()
    own = sorted(set(operator.params) - set(dag.params if dag else ()))
    used = any("params" in str(getattr(operator, name)) for name in operator.template_fields)
    if not own or used or operator.job_params is not None:
        return []
    what = f"the params of a task are Airflow's, for its templates: the model's code does not get {', '.join(own)}"
    return [("params", Refusal(what, do="Write job_params for what the code finds in job.params"))]


class _Partial:
    """What messages say of an operator that is not created yet."""

    def __init__(self, kind: type, arguments: Mapping[str, Any]) -> None:
        from airflow.sdk.definitions._internal.contextmanager import DagContext

        self.kind, self.task_id = kind, arguments.get("task_id", "")
        self.dag = arguments.get("dag") or DagContext.get_current()


def _refused(arguments: Mapping[str, Any], checks: Checks) -> list[tuple[str, Refusal]]:
    found = []
    for name in sorted(arguments.keys() & checks.keys()):
        try:
            if (known := _known(arguments[name])) is not _UNKNOWN:
                checks[name](known, False)
        except Refusal as refusal:
            found.append((name, refusal))
    return found


def _refuse_all(operator: Any, refused: Iterable[tuple[str, Refusal]], *, place: bool = True) -> None:
    """Raise one error with a line for each refusal: the task, the argument, and the line of the DAG file."""
    if not refused:
        return
    kind = getattr(operator, "kind", type(operator)).__name__
    dag = operator.dag if isinstance(operator, _Partial) else operator.get_dag()
    task = f"{kind} {f'{dag.dag_id}.' if dag else ''}{operator.task_id}"
    begin = f"{_author_place()}  {task}" if place else task
    problems = [problem_of(refusal, file=Path(), where=dotted((name, *refusal.at))) for name, refusal in refused]
    raise InvalidArgument("\n".join(f"{begin}: {problem.message}" for problem in problems)) from None


@cache
def _parameters(kind: type) -> frozenset[str]:
    """Return the names of all parameters of an operator, Airflow's included."""
    own = [each.__dict__["__init__"] for each in kind.__mro__[:-1] if "__init__" in each.__dict__]
    return frozenset(name for init in own for name in inspect.signature(inspect.unwrap(init)).parameters)


def _author_place() -> str:
    """Return file and line of the call that creates the operator: the first neither in modelway nor in Airflow."""
    ours = (str(Path(modelway.__file__).parent), str(Path(sys.modules["airflow.sdk"].__file__ or "").parent))
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith((*ours, "<frozen")):
        frame = frame.f_back
    return f"{display(Path(frame.f_code.co_filename))}:{frame.f_lineno}"


def _known(value: Any) -> Any:
    """Return the part of a value that is known while the DAG is parsed, ``_UNKNOWN`` where nothing is."""
    if isinstance(value, _LITERAL):
        return value.value
    if hasattr(value, "task_id") and hasattr(value, "output"):
        raise Refusal(
            f"is the operator '{value.task_id}', not what it returns",
            do="Give its .output",
        )
    if hasattr(value, "operator_class"):
        raise Refusal("is a task that is not made yet", do="Give what its call returns, or its .expand(…).output")
    # XComArgs and mapped values, or a function that Airflow calls for the value.
    if hasattr(value, "iter_references") or callable(value):
        return _UNKNOWN
    if isinstance(value, str):
        return _UNKNOWN if any(mark in value for mark in _TEMPLATE) else value
    if isinstance(value, Mapping):
        known = {key: _known_part(key, part) for key, part in value.items()}
        return {key: part for key, part in known.items() if part is not _UNKNOWN}
    if isinstance(value, list | tuple):
        parts = [_known_part(index, part) for index, part in enumerate(value)]
        return _UNKNOWN if any(part is _UNKNOWN for part in parts) else type(value)(parts)
    return value


def _known_part(key: Any, part: Any) -> Any:
    try:
        return _known(part)
    except Refusal as refusal:
        raise refusal.within(key) from None
