"""What a program of torch's own operators may name, and that nothing else is looked up or evaluated."""

import json
from pathlib import Path
from typing import Any

import pytest
from modelway.torch_program import UnsafeProgram, _read, check_program


def with_node(
    target: str = "torch.ops.aten.add.Tensor", expression: str = "Symbol('s7')", **more: Any
) -> dict[str, Any]:
    value = {"as_expr": {"expr_str": expression, "hint": None}}
    return {
        "graph_module": {"graph": {"nodes": [{"target": target, "inputs": [{"arg": {"as_sym_int": value}}]}]}},
        **more,
    }


@pytest.mark.parametrize(
    ("target", "expression"),
    [
        ("torch.ops.aten.add.Tensor", "Add(Mul(Integer(8), Symbol('s22', positive=True, integer=True)), Integer(-8))"),
        ("torch.ops.higher_order.cond", "(s0 + 1)//2"),
        ("_operator.mul", "Max(1, u0)"),
        ("math.trunc", "Eq(Mod(s77, 2), 0)"),
    ],
)
def test_operators_and_sizes_are_allowed(target: str, expression: str) -> None:
    check_program(with_node(target, expression))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("torch.load", "names 'torch.load', which is no operator of torch"),
        ("torch.ops.load_library", "which is no operator"),
        ("torch.ops.aten.add.Tensor.__globals__", "which is no operator"),
        ("_operator.add.__self__", "which is no operator"),
        ("#extension.call", "which is no operator"),
        ("builtins.print", "which is no operator"),
    ],
)
def test_any_other_function_is_refused(target: str, said: str) -> None:
    with pytest.raises(UnsafeProgram, match=said):
        check_program(with_node(target))


@pytest.mark.parametrize(
    "expression", ["print(1)", "s0.free_symbols", "[s0]", "s0; s1", "s0 if s1 else s2", 's0["a"]', "ä"]
)
def test_an_expression_of_more_than_sizes_is_refused(expression: str) -> None:
    with pytest.raises(UnsafeProgram, match="which is not of sizes alone"):
        check_program(with_node(expression=expression))


@pytest.mark.parametrize("key", ["guards_code", "stack_trace"])
def test_source_is_refused(key: str) -> None:
    with pytest.raises(UnsafeProgram, match=f"has {key}, which is no part"):
        check_program(with_node(**{key: ["len(L['x']) == 2"]}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "two words"),
        ("name", "with'quote"),
        ("as_name", "a, b"),
        ("forward_arg_names", ["inputs_0", "a=b"]),
        ("parameter_name", 'model."quoted".weight'),
        ("buffer_name", "model.two\nlines"),
        ("tensor_constant_name", "back\\slash"),
        ("custom_obj_name", 'a"b'),
        ("in_spec", "it's"),
        ("in_spec", '[1, {"context": "[\\u0022a\\u0022]"}]'),
        ("out_spec", "f(x)"),
    ],
)
def test_a_name_that_is_more_than_a_name_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UnsafeProgram, match=f"has the {key} .*, which is more than a name"):
        check_program(with_node(**{key: value}))


def test_names_as_torch_gives_them_are_allowed() -> None:
    spec = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": null, "context": null}]}]'
    specs = {"in_spec": spec, "out_spec": spec, "forward_arg_names": ["inputs_0"]}
    names = {"name": "add_1", "as_name": "sym_size_int", "buffer_name": "model.lifted_tensor_0"}
    check_program(with_node(**specs, **names, parameter_name="model.heads.class-1 of 2.weight"))
    check_program(with_node(module_call_graph=[{"signature": None, "name": None}]))


def test_an_operator_as_a_value_is_one_of_torch() -> None:
    check_program(with_node(as_operator="torch.ops.aten.add.Tensor"))
    with pytest.raises(UnsafeProgram, match="names 'torch.load', which is no operator"):
        check_program(with_node(as_operator="torch.load"))


def test_a_program_that_is_not_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    whole = {"format": 1, "inputs": [], "outputs": [], "weights": {}, "constants": {}, "program": with_node()}
    path.write_text(json.dumps(whole))
    assert _read(path) == whole
    for text, said in (
        ("", "not a whole program: JSONDecodeError"),
        (json.dumps({"format": 1}), "not a whole program: KeyError: 'inputs'"),
        (json.dumps({**whole, "format": 2}), "has format 2, this code knows 1"),
        ("[]", "not a whole program: TypeError"),
    ):
        path.write_text(text)
        with pytest.raises(UnsafeProgram, match=said):
            _read(path)
    path.write_bytes(b"\x80\x04\x95")
    with pytest.raises(UnsafeProgram, match="not a whole program: UnicodeDecodeError"):
        _read(path)
