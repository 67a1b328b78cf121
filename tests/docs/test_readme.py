"""The README says what is there."""

import argparse
import importlib
import re
from pathlib import Path

import pytest
from modelway.cli.index import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DIGITS = ROOT / "include" / "models" / "digits"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_yaml_is_the_model_spec_of_digits():
    assert blocks("yaml")[0] == (DIGITS / "model.yaml").read_text()


def test_the_python_is_taken_from_the_code_of_digits():
    code = (DIGITS / "digits.py").read_text()
    for part in blocks("python")[0].strip().split("\n\n\n"):
        assert part.strip() in code


def test_every_command_is_reported():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for group in sorted({command.group for command in COMMANDS.values()}):
        importlib.import_module(f"modelway.cli.{group}").add_commands(commands)
    assert len(commands.choices) >= 5
    for name, command in commands.choices.items():
        assert f"modelway {name}" in README, name
        assert command.format_help()


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    known = {word for target in targets for word in target.split()}
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"demo", "test", "lock"} <= named
    assert named <= known


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#]+)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
