"""Whatever a file holds, reading it ends in a spec or in problems that can be printed."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelway.cli.lint import printable
from modelway.spec.document.write import write_document
from modelway.spec.load import load_files
from modelway.spec.problems import render
from spec_samples import DEFAULTS, FULL, GOOD_CODE, RICH, write_model

SEED = 20260131
BITS = [
    *"{}[]:,-'\"|>&*!%@#?~\\ \n\t",
    "\0",
    "\ufeff",
    "\u2028",
    "\ud7ff",
    "\U0001f600",
    "null",
    ".nan",
    "1e999",
    "<<: ",
    "- ",
]
BITS += ["{{ ", " }}", "{% for %}", "&a ", "*a", "0755", "!!python/name:os.system ", "9" * 200, "é", "\\ud800", "''"]

VALUES: list[object] = [None, True, 0, -1.5, "", "x", [], [None], {}, {"x": {}}, [[]], "{{", 10**30]


def check(folder: Path, content: bytes) -> None:
    (folder / "model.yaml").write_bytes(content)
    loaded = load_files([folder / "model.yaml"], environment="", every_environment=True)
    assert bool(loaded.specs) != bool(loaded.problems)
    for spec in loaded.specs.values():
        json.dumps(spec.to_dict(), allow_nan=False)
        assert spec.digest.startswith("sha256:")
        write_document(spec.to_dict())
    for problem in loaded.problems:
        assert "\n" not in str(problem)
    printable(render(loaded.problems)).encode()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    (tmp_path / "defaults.yaml").write_text(DEFAULTS)
    folder = write_model(tmp_path, "digits")
    (folder / "net.py").write_text(GOOD_CODE)
    return folder


@pytest.mark.parametrize("text", [FULL, RICH], ids=["full", "rich"])
def test_each_beginning_of_a_good_spec_is_read_or_refused(text: str, digits: Path) -> None:
    content = text.encode()
    for end in range(0, len(content), 11):
        check(digits, content[:end])


def mutations(text: str, *, count: int) -> Iterator[str]:
    draw = random.Random(SEED)
    for _ in range(count):
        mutated = text
        for _ in range(draw.randint(1, 4)):
            at, length = draw.randrange(len(mutated)), draw.choice((0, 0, 1, 3, 20))
            mutated = mutated[:at] + draw.choice(BITS) + mutated[at + length :]
        yield mutated


@pytest.mark.parametrize("text", [FULL, RICH], ids=["full", "rich"])
def test_a_good_spec_with_something_changed_is_read_or_refused(text: str, digits: Path) -> None:
    for mutated in mutations(text, count=100):
        check(digits, mutated.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("text", [FULL, RICH], ids=["full", "rich"])
def test_a_good_spec_with_bytes_changed_is_read_or_refused(text: str, digits: Path) -> None:
    draw = random.Random(SEED)
    for _ in range(100):
        content = bytearray(text.encode())
        for _ in range(draw.randint(1, 5)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        check(digits, bytes(content))


@pytest.mark.parametrize("text", [FULL, RICH], ids=["full", "rich"])
def test_each_value_of_a_good_spec_may_be_of_any_type(text: str, digits: Path) -> None:
    from modelway.spec.document.read import read_document

    root, _ = read_document(text, file=digits / "model.yaml")
    assert root is not None
    plain = root.plain()
    draw = random.Random(SEED)
    for path in paths(plain):
        for value in draw.sample(VALUES, 2):
            check(digits, json.dumps(replaced(plain, path, value)).encode())


def paths(data: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from paths(value, (*above, key))


def replaced(data: object, path: tuple[str | int, ...], value: object) -> object:
    if not path:
        return value
    if isinstance(data, dict):
        return {key: replaced(item, path[1:], value) if key == path[0] else item for key, item in data.items()}
    assert isinstance(data, list)
    return [replaced(item, path[1:], value) if index == path[0] else item for index, item in enumerate(data)]
