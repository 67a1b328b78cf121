from pathlib import Path
from typing import Any

import pytest
from modelway.spec.code import code_problems, needed_functions

COMMAND = {"command": ["python", "x.py"]}


def problems(code: str | bytes, tmp_path: Path, **data: Any) -> list[str]:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "digits.py").write_bytes(code if isinstance(code, bytes) else code.encode())
    return [
        str(problem).split("digits.py", 1)[1] for problem in code_problems({"model": "digits", **data}, folder=folder)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n",
        "def train(*args): ...\ndef evaluate(job, c, d=1): ...\ndef export(j, c, *, opset=18): ...\n",
        "from other import train, evaluate as evaluate\nimport export\n",
        "from other import *\n",
        "train = evaluate = export = print\n",
        "def train(): ...\ntrain = wrapped(train)\nevaluate = export = train\n",
        "try:\n    from fast import train, evaluate, export\nexcept ImportError:\n    from slow import train\n",
        "if True:\n    def train(job): ...\nelse:\n    train: object = print\nevaluate, export = print, print\n",
        "class train:\n    def __init__(self, job): ...\nevaluate = export = train\n",
    ],
)
def test_functions_are_found_in_every_way_a_module_can_have_them(code: str, tmp_path: Path) -> None:
    assert problems(code, tmp_path) == []


def test_code_is_read_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\ndef train(job): ...\n"
    assert len(problems(code, tmp_path)) == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def train(): ...", ":1:1  train(job) is called, but this is train()."),
        ("\nasync def train(job): ...", ":2:1  train(job) is called, but this is an async function."),
        ("def train(job, data): ...", ":1:1  train(job) is called, but this is train(job, data)."),
        ("def train(job, *, data): ...", ":1:1  train(job) is called, but this is train(job, *, data)."),
        ("def outer():\n    def train(job): ...", "  there is no function train(job)"),
        ("class A:\n    def train(self, job): ...", "  there is no function train(job)"),
        ("train: object", "  there is no function train(job)"),
        ("x = 'def train(job): ...'", "  there is no function train(job)"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(code: str, expected: str, tmp_path: Path) -> None:
    assert problems(code + "\nevaluate = export = print\n", tmp_path)[0].startswith(expected)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def train(job:\n", ":1:10  not valid Python: '(' was never closed."),
        (b"x = '\xff'\n", "not valid Python"),
        ("x = 1\x00", "not valid Python"),
        ("-" * 100_000 + "1", "not valid Python"),
        ("x = '" + "a" * 1_000_001 + "'", "the file is larger than 1 MB"),
    ],
)
def test_a_file_that_is_no_python_is_one_problem(code: str | bytes, expected: str, tmp_path: Path) -> None:
    found = problems(code, tmp_path)
    assert len(found) == 1
    assert expected in found[0]
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        ({}, ("train", "evaluate", "export")),
        ({"evaluate": COMMAND}, ("train", "export")),
        ({"train": {"stages": [COMMAND, {}]}}, ("train", "evaluate", "export")),
        ({"train": {"stages": [COMMAND, COMMAND]}, "evaluate": COMMAND}, ("export",)),
        ({"freeze": COMMAND}, ("train", "evaluate")),
        ({"train": [], "evaluate": 3}, ("train", "evaluate", "export")),
        ({"train": {"stages": []}}, ("train", "evaluate", "export")),
    ],
)
def test_a_command_stands_in_for_a_function(data: dict[str, Any], needed: tuple[str, ...]) -> None:
    assert needed_functions(data) == needed


def test_a_broken_link_in_place_of_the_code_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "m.py").symlink_to(tmp_path / "gone.py")
    found = code_problems({"model": "m"}, folder=tmp_path / "m")
    assert [problem.what for problem in found] == ["the file cannot be read: no such file or directory"]


@pytest.mark.parametrize(
    ("imports", "beside"),
    [
        ("import jax, torch", ""),
        ("import jax, sklearn", ""),
        ("import jax\nfrom jax2onnx import to_onnx", ""),
        ("import jax\nfrom network import Net", "import torch"),
        ("import jax\nfrom network import Net", "import xgboost"),
        ("import numpy", ""),
        ("import jax\nimport network", "this is no Python"),
    ],
    ids=["torch", "estimator", "unknown", "beside", "estimator beside", "none", "unreadable"],
)
def test_another_framework_is_refused_only_where_nothing_can_bring_what_is_frozen(
    imports: str, beside: str, tmp_path: Path
) -> None:
    code = f"{imports}\ndef train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "digits.py").write_text(code)
    (folder / "network.py").write_text(beside)
    assert code_problems({"model": "digits"}, folder=folder) == []
    (folder / "digits.py").write_text(code.replace(imports, "import jax, joblib"))
    (folder / "network.py").write_text("import flax")
    (problem,) = code_problems({"model": "digits"}, folder=folder)
    assert "imports jax and nothing that makes one" in str(problem)
    for section in ({"format": "files"}, {"command": ["python", "to_onnx.py"]}):
        assert code_problems({"model": "digits", "freeze": section}, folder=folder) == []
