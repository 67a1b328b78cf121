"""What is said where ONNX Runtime cannot load or run a frozen program."""

from typing import Any

import numpy
import pytest
from modelway.job.freezing.comparison import VerificationError
from modelway.job.freezing.session import ProgramFails, ProgramModel
from modelway.job.freezing.verify import _compare_call
from onnx import TensorProto, helper


def program(operator: str, kind: int, shape: list[str | int], *names: str) -> bytes:
    """Return a program of one operator."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name in (*names, "y")]
    graph = helper.make_graph([helper.make_node(operator, names, ["y"])], "one", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_program_that_does_not_load_is_named_without_codes() -> None:
    with pytest.raises(ProgramFails, match=r"^Could not find an implementation for Conv\(11\) node"):
        ProgramModel(program("Conv", TensorProto.DOUBLE, ["b", 1, 3, 3], "x", "w"))


def test_an_operator_that_fails_is_named_with_its_reason() -> None:
    division = ProgramModel(program("Div", TensorProto.INT64, ["n"], "a", "b"))
    with pytest.raises(ProgramFails, match=r"^Div: .*Integer division by zero$"):
        division({"a": numpy.array([1]), "b": numpy.array([0])})


def test_a_program_for_the_examples_size_alone_is_named() -> None:
    def fails(_: Any) -> Any:
        raise ProgramFails(RuntimeError("invalid index"))

    tolerance = {"absolute": 0.0, "relative": 0.0}
    said = (
        r"fails at the golden inputs 'smaller-height': invalid index. .*works with the example's 'height' alone: leave"
    )
    with pytest.raises(VerificationError, match=said):
        _compare_call(fails, "smaller-height", {}, {}, tolerance)
    with pytest.raises(ProgramFails):
        _compare_call(fails, "2", {}, {}, tolerance)
