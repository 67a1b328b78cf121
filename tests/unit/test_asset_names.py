"""What may name an asset, a version of one, or a file in it."""

import pytest
from modelway.artifacts.asset_names import WantedVersion, check_asset_name, check_asset_path, parse_wanted
from modelway.errors import ModelwayError


@pytest.mark.parametrize("name", ["a", "digits", "digits.code", "street-signs_2", "0", "a" * 100])
def test_names_that_can_be_used(name: str) -> None:
    assert check_asset_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "ä", "cat🐈", "..", ".", ".hidden", "-a", "a/b", "/a", "a b", "a\n", "a" * 101, "x" * 10_000],
)
def test_every_other_name_is_refused_in_one_line_that_says_what_is_allowed(name: str) -> None:
    with pytest.raises(ModelwayError, match="cannot name an asset. Use lower-case letters, digits, dots") as caught:
        check_asset_name(name)
    assert len(str(caught.value)) < 260


def test_versions_are_named_by_number_or_alias_or_are_the_latest() -> None:
    assert parse_wanted("a") == parse_wanted("a:latest") == WantedVersion(name="a")
    assert parse_wanted("a@12") == WantedVersion(name="a", number=12)
    assert parse_wanted("a:good") == WantedVersion(name="a", alias="good")
    assert parse_wanted("a:v3") == WantedVersion(name="a", alias="v3")
    assert [str(parse_wanted(text)) for text in ("a", "a@12", "a:good")] == ["a", "a@12", "a:good"]


@pytest.mark.parametrize("text", ["a@", "a@0", "a@-1", "a@x", "a:", "a:3", "a:Ä", "a@1:x", "a:x@1", "@1"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(ModelwayError, match="names no version of an asset|cannot name an asset"):
        parse_wanted(text)


@pytest.mark.parametrize("path", ["a", "images/cat.png", "Ünï cöde/🐈.txt", "a..b", "x" * 255])
def test_paths_that_can_be_used(path: str) -> None:
    assert check_asset_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/a", "../a", "a/../b", "a/..", "a//b", "./a", "a/", ".asset.json", "a\nb", "a\0", "\udc80"]
    + ["x" * 256, "/".join(["x" * 200] * 6)],
)
def test_every_other_path_is_refused(path: str) -> None:
    with pytest.raises(ModelwayError, match="cannot be a file of an asset") as caught:
        check_asset_path(path)
    assert len(str(caught.value)) < 260
