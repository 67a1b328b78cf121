"""What a job leaves is opened below its folder: no link is followed out of it, nothing blocks, nothing is too large."""

import os
from pathlib import Path

import pytest
from modelway.job.left_files import (
    NotBelow,
    append_below,
    document_below,
    files_below,
    is_below,
    name_below,
    names_below,
    open_below,
    read_below,
    remove_below,
    write_below,
)

SECRET = "a secret of the machine that reads"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.json").write_text(f'{{"marker": "{SECRET}"}}')
    inside = tmp_path / "job"
    (inside / "output" / "deep").mkdir(parents=True)
    (inside / "output" / "a").write_text("a")
    return inside


def leave(folder: Path, how: str) -> str:
    """Leave a file in a way that leads elsewhere; return its name."""
    secret = folder.parent / "outside" / "secret.json"
    (folder / "output" / "deep" / "up").symlink_to("../..")
    links = {
        "absolute": secret,
        "relative": "../outside/secret.json",
        "chain": "output/deep/up/../outside/secret.json",
        "loop": "left",
        "proc": f"/proc/self/root{secret}",
        "device": "/dev/zero",
        "folder": secret.parent,
    }
    if how in links:
        (folder / "left").symlink_to(links[how])
    elif how == "fifo":
        os.mkfifo(folder / "left")
    elif how == "directory":
        (folder / "left").mkdir()
    names = {"folder": "left/secret.json", "dots": "output/../../outside/secret.json", "root": str(secret)}
    return names.get(how, "left")


HOSTILE = ("absolute", "relative", "folder", "chain", "loop", "dots", "root", "proc", "fifo", "device", "directory")


@pytest.mark.parametrize("how", HOSTILE)
def test_what_leads_elsewhere_is_neither_read_nor_written(folder: Path, how: str) -> None:
    name = leave(folder, how)
    with pytest.raises(OSError, match=r"."):
        open_below(folder, name)
    with pytest.raises(OSError, match=r"."):
        append_below(folder, name)
    assert document_below(folder, name) is None
    assert not is_below(folder, name)
    for change in (lambda: write_below(folder, name, b"changed"), lambda: remove_below(folder, name)):
        try:
            change()
        except OSError:
            continue
    assert SECRET in (folder.parent / "outside" / "secret.json").read_text()
    assert os.listdir(folder.parent / "outside") == ["secret.json"]


@pytest.mark.parametrize("how", [how for how in HOSTILE if how not in ("dots", "root", "directory")])
def test_a_folder_with_what_leads_elsewhere_is_refused(folder: Path, how: str) -> None:
    leave(folder, how)
    with pytest.raises(OSError, match=r"."):
        assert not any(SECRET.encode() in read_below(folder, name) for name in files_below(folder, "."))


def test_links_that_stay_inside_are_followed(folder: Path) -> None:
    (folder / "output" / "last").symlink_to("deep/../a")
    (folder / "output" / "deep" / "b").symlink_to("../last")
    (folder / "results").symlink_to("output")
    for name in ("output/a", "output/last", "output/deep/b", "results/deep/b", "./output/./deep/../last"):
        assert read_below(folder, name) == b"a"
    assert list(files_below(folder, "output")) == ["a", "deep/b", "last"]
    assert names_below(folder, "results") == ["a", "deep", "last"]


def test_a_file_takes_the_place_of_a_link_that_has_its_name(folder: Path) -> None:
    leave(folder, "absolute")
    write_below(folder, "left", b"{}")
    assert not (folder / "left").is_symlink()
    assert read_below(folder, "left") == b"{}"
    assert SECRET in (folder.parent / "outside" / "secret.json").read_text()


def test_what_is_too_large_or_no_document_is_not_read(folder: Path) -> None:
    (folder / "large").write_bytes(b" " * 101)
    with pytest.raises(NotBelow, match="more than 100 bytes"):
        read_below(folder, "large", most=100)
    for text in ("[1]", "{", "[" * 100_000, '"text"', "\xff"):
        (folder / "document").write_text(text, encoding="latin-1")
        assert document_below(folder, "document") is None


def test_a_file_is_appended_to(folder: Path) -> None:
    for text in (b"one", b"two"):
        with append_below(folder, "output/log") as file:
            file.write(text)
    assert read_below(folder, "output/log") == b"onetwo"
    with pytest.raises(NotBelow):
        name_below(folder, folder.parent / "outside")
    with pytest.raises(FileNotFoundError):
        read_below(folder, "none")
    assert names_below(folder, "none") == []
