"""The home folder is its user's alone."""

import os
import stat
from pathlib import Path

import pytest
from modelway.cli import main
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.settings import make_private
from modelway.localairflow.home_lock import only_one


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("exists", [False, True])
def test_it_is_closed_to_others_before_anything_lies_in_it(tmp_path, monkeypatch, exists):
    home = tmp_path / "new" / "home"
    if exists:
        home.mkdir(parents=True)
        assert mode(home) == 0o777
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    settings_from_airflow()
    assert mode(home) == 0o700


def test_a_command_closes_it_too(tmp_path):
    with only_one(tmp_path / "home", command="modelway run m"):
        assert mode(tmp_path / "home") == 0o700


def test_a_folder_that_is_not_modelways_alone_stays_as_it_is(tmp_path, monkeypatch):
    everybodys, own = tmp_path / "tmp", tmp_path / "me"
    for folder, given in ((everybodys, 0o1777), (own, 0o755)):
        folder.mkdir()
        folder.chmod(given)
        monkeypatch.setenv("HOME", str(own))
        make_private(folder)
        assert mode(folder) == given
    (tmp_path / "file").touch(0o644)
    make_private(tmp_path / "file")
    make_private(tmp_path / "file" / "below")
    assert mode(tmp_path / "file") == 0o644


def test_a_folder_that_is_set_to_its_group_stays_open_to_it(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o2775)
    make_private(tmp_path / "home")
    assert mode(tmp_path / "home") == 0o2770


@pytest.mark.parametrize("words", [("versions",), ("serving",), ("endpoint", "list"), ("asset", "list"), ("gc",)])
def test_another_user_is_reported_that_it_is_closed(tmp_path, monkeypatch, capsys, words):
    home = tmp_path / "home"
    home.mkdir(mode=0)
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert main(words) == 1
    finally:
        os.seteuid(user)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"the home {home} is closed to this user (permission denied). Run the command as the user of" in shown
