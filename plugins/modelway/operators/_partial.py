"""A partial operator that also checks what it is mapped over, as far as the DAG file says it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.mappedoperator import OperatorPartial

from modelway.operators.arguments import check_mapped, refuse_unknown

if TYPE_CHECKING:
    from airflow.sdk.definitions.mappedoperator import MappedOperator


class CheckedPartial(OperatorPartial):
    """The result of ``partial()`` of modelway's operators."""

    @classmethod
    def of(cls, made: OperatorPartial) -> "CheckedPartial":
        """Return the same partial operator with checks."""
        # Otherwise Airflow warns that it was never mapped.
        made._expand_called = True
        return cls(operator_class=made.operator_class, kwargs=made.kwargs, params=made.params)

    def expand(self, **mapped_kwargs: Any) -> "MappedOperator":
        """Map over lists.

        :raises InvalidArgument: an argument, or an item of a list, cannot be right
        """
        self._check(mapped_kwargs, {name: _items(value) for name, value in mapped_kwargs.items()})
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> "MappedOperator":
        """Map over a list of arguments.

        :raises InvalidArgument: an argument cannot be right
        """
        mapped: dict[str, list[Any]] = {}
        for each in kwargs if isinstance(kwargs, list | tuple) else ():
            for name, value in each.items() if isinstance(each, Mapping) else ():
                mapped.setdefault(name, []).append(value)
        self._check(mapped, mapped)
        return super().expand_kwargs(kwargs, strict=strict)

    def _check(self, mapped: Mapping[str, Any], items: Mapping[str, Any]) -> None:
        shared = {name: value for name, value in self.kwargs.items() if name not in mapped}
        try:
            refuse_unknown(self.operator_class, {**mapped, "task_id": shared["task_id"]})
            check_mapped(self.operator_class, shared, items)
        except Exception:
            self._expand_called = True
            raise


def _items(value: Any) -> Any:
    """Return what the single tasks get of a mapped value; anything but a list is checked as it is."""
    if isinstance(value, Mapping):
        return [*value.items()]
    return list(value) if isinstance(value, list | tuple) else value
