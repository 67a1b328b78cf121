"""The index of the commands says what the commands' own files say, and the help loads none of them."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import modelway.cli
import pytest
from modelway.cli import main
from modelway.cli.index import COMMANDS


def added(group: str) -> list[Any]:
    commands = argparse.ArgumentParser().add_subparsers()
    importlib.import_module(f"modelway.cli.{group}").add_commands(commands)
    return list(commands._choices_actions)


def test_the_index_has_every_command_with_its_line_of_help() -> None:
    files = {path.stem for path in Path(modelway.cli.__file__).parent.glob("*.py") if path.stem[0] != "_"} - {"index"}
    found = {each.dest: (group, each.help) for group in sorted(files) for each in added(group)}
    assert {name: tuple(command) for name, command in COMMANDS.items()} == found


def test_the_help_and_a_command_load_the_file_of_no_other_command() -> None:
    code = (
        "import sys; from modelway.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('modelway.')))"
    )
    for words, file in (["--help"], "[]"), (["lint", "--help"], "lint"):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        loaded = done.stdout.splitlines()[-1]
        assert "modelway.cli.demo" not in loaded
        assert ("modelway.cli.lint" in loaded) == (file == "lint")
        assert "psutil" not in loaded


@pytest.mark.parametrize("words", [[], ["--help"], ["lintt"], ["--wrong"], ["lint", "--wrong"], ["--wrong", "lint"]])
def test_wrong_usage_ends_with_two_and_names_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == (0 if words == ["--help"] else 2)
    shown = "".join(capsys.readouterr())
    assert "usage: modelway" in shown
    if words == ["lintt"]:
        assert "choose from" in shown
        assert "reproduce" in shown
