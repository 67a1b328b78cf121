"""The exporter's list of operators, without the work that it throws away.

At each export onnxscript 0.7 parses the Python source of the hundreds of operators that torch might need, of which the
exporter reads the domain alone: that is a third of the time in which a small module becomes a program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Signature:
    """What an operator's source says: parsed once somebody wants more than its domain."""

    def __init__(self, operator: Any, parsed: property) -> None:
        self._operator, self._parsed = operator, parsed
        self.domain: str = operator.opset.domain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parsed.__get__(self._operator), name)


@contextmanager
def quickly_listed() -> Iterator[None]:
    """Let torch list its operators within the block without parsing their sources."""
    from onnxscript._internal import values

    operators = getattr(values, "TracedOnnxFunction", None)
    parsed = vars(operators).get("function_ir") if operators is not None else None
    # Another version of onnxscript does it in another way.
    if operators is None or not isinstance(parsed, property):
        yield
        return
    operators.function_ir = property(lambda operator: _Signature(operator, parsed))
    try:
        yield
    finally:
        operators.function_ir = parsed
