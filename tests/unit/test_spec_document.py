from pathlib import Path
from typing import Any

import pytest
from modelway.spec.document import read as document
from modelway.spec.document.read import read_document

FILE = Path("m/model.yaml")


def read(text: str) -> Any:
    root, problems = read_document(text, file=FILE)
    assert root is not None, problems
    assert not problems
    return root.plain()


def first_problem(text: str) -> str:
    _, problems = read_document(text, file=FILE)
    return str(problems[0])


def test_values_are_those_of_the_core_schema() -> None:
    text = """
    numbers: [1, -2, 0, 1.5, 1e-4, 1E3, .5, 2., 0x1f, 0o17]
    words: ["1", 'true', 2024-01-01, 1.2.3, ~x, Yes.]
    rest: [true, False, null, ~, ]
    block: |
      two
      lines
    """
    assert read(text) == {
        "numbers": [1, -2, 0, 1.5, 1e-4, 1000.0, 0.5, 2.0, 31, 15],
        "words": ["1", "true", "2024-01-01", "1.2.3", "~x", "Yes."],
        "rest": [True, False, None, None],
        "block": "two\nlines\n",
    }


def test_an_alias_stands_for_the_value_of_its_anchor() -> None:
    assert read("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_places_count_lines_and_columns_of_characters_from_one() -> None:
    root, _ = read_document("é: {ü: 1,\n  'ß': [x, 2]}\n", file=FILE)
    assert root is not None
    assert root.place(("é", "ü")) == (FILE, 1, 8)
    assert root.place(("é", "ß"), of_key=True) == (FILE, 2, 3)
    assert root.place(("é", "ß", 1)) == (FILE, 2, 12)
    assert root.place(("é", "absent", 3)) == (FILE, 1, 4)


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_a_word_that_yaml_readers_disagree_on_is_refused_unless_quoted(word: str) -> None:
    assert f"YAML readers read {word} as a boolean" in first_problem(f"a: {word}")
    assert read(f"a: '{word}'") == {"a": word}


@pytest.mark.parametrize("number", ["0755", "1_000", "1:30", "-07", "1_0.5"])
def test_a_number_that_yaml_readers_disagree_on_is_refused_unless_quoted(number: str) -> None:
    assert "YAML readers disagree" in first_problem(f"a: {number}")
    assert read(f"a: '{number}'") == {"a": number}


@pytest.mark.parametrize("number", [".nan", ".inf", "-.INF", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    assert first_problem(f"a: [{number}]") == f"m/model.yaml:1:5  a[0]: '{number}' is not a finite number."


def test_a_number_with_thousands_of_digits_is_refused() -> None:
    assert "more than 100 digits" in first_problem("a: " + "9" * 5000)


def test_aliases_that_multiply_are_stopped_before_they_grow() -> None:
    levels = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert f"more than {document.MOST_VALUES} values" in first_problem("\n".join(levels))


def test_too_many_aliases_are_refused() -> None:
    assert "more than 100 aliases" in first_problem("a: &a 1\nb: [" + "*a, " * 101 + "]")


@pytest.mark.parametrize("text", ["[" * 500_000, "{a: " * 200_000, "- " * 300_000, "? " * 100_000])
def test_values_nested_without_end_are_refused_and_crash_nothing(text: str) -> None:
    assert "nested more than 20 deep" in first_problem(text)


def test_aliases_cannot_nest_deeper_than_what_is_written_out() -> None:
    levels = ["a0: &a0 " + "[" * 15 + "1" + "]" * 15]
    levels += [f"a{n}: &a{n} {'[' * 15}*a{n - 1}{']' * 15}" for n in range(1, 80)]
    assert "nested more than 20 deep" in first_problem("\n".join(levels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *nowhere", "m/model.yaml:1:4  a: the alias '*nowhere' has no complete anchor"),
        ("a: &a [*a]", "m/model.yaml:1:8  a[0]: the alias '*a' has no complete anchor"),
        ("a: {<<: {b: 1}}", "m/model.yaml:1:5  a: '<<' (a YAML merge) is not used"),
        ("a: !!python/name:os.system", "the YAML tag '!!python/name:os.system' is not used"),
        ("a: !secret x", "the YAML tag '!secret' is not used"),
        ("{[1]: 2}", "m/model.yaml:1:2  a key must be plain text"),
        ("1: 2", "m/model.yaml:1:1  the key 1 is not text"),
        ("null: 2", "the key null is not text"),
        ("a: 1\nb: 2\na: 3", "m/model.yaml:3:1  a: the key is given twice, first in line 1"),
        ("a: 1\n---\nb: 1", "m/model.yaml:2:1  a second document begins here"),
        ("", "m/model.yaml  the file holds no value. Write at least: model: m."),
        ("# only a comment", "the file holds no value"),
        ("a: b: c", "Check the indentation"),
        ("a: @b", "cannot start any token"),
        ("a: 'open", "m/model.yaml:1:9  not valid YAML"),
        ("ab: 1\nc: \x00", "m/model.yaml:2:4  not valid YAML: the file holds a character"),
        ("a: > 0.9", "Put a value that begins with '>' or '|' in quotes"),
    ],
)
def test_what_is_wrong_as_yaml_is_said_in_one_line(text: str, message: str) -> None:
    found = first_problem(text)
    assert message in found
    assert "\n" not in found


def test_problems_of_the_text_are_all_found_and_the_value_is_still_read() -> None:
    root, problems = read_document("a: yes\nb: .nan\na: 2\nc: 3\n", file=FILE)
    assert [problem.line for problem in problems] == [1, 2, 3]
    assert root is not None
    assert root.plain()["c"] == 3
