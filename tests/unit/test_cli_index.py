"""The index of the commands says what the commands' own files say."""

import argparse
import importlib
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
