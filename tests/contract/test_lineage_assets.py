"""Assets in the lineage, on both databases."""

import multiprocessing
from dataclasses import replace
from typing import Any

import pytest
from modelway.errors import ModelwayError, UnknownAsset
from modelway.lineage.compare.assets import asset_difference
from modelway.lineage.records.assets import AssetFile, NewAssetVersion
from modelway.lineage.records.version import FileRecord, VersionRecord
from modelway.lineage.store import open_lineage
from modelway.lineage.write.assets import Assets

from tests.lineage_samples import digest, make_record

FORK = multiprocessing.get_context("fork")


def file(path: str, content: str = "") -> AssetFile:
    given = digest(content or path)
    return AssetFile(path=path, digest=given, size=len(content or path), uri=f"file:///store/{given[7:]}")


def new(name: str = "labels", *files: AssetFile, **more: Any) -> NewAssetVersion:
    return NewAssetVersion(name=name, files=files or (file("a.csv"),), actor="mia", **more)


@pytest.fixture
def assets(url: str) -> Assets:
    return open_lineage(url).assets


def test_versions_are_dense_and_the_same_again_is_none(assets: Assets) -> None:
    first = assets.add(new(message="first", aliases=["approved"], description="what is seen"))
    assert (first.number, first.is_new, first.moved) == (1, True, ("approved",))
    assert assets.add(new("labels", file("a.csv"), file("b.csv"))).number == 2
    again = assets.add(new(message="once more", aliases=["approved"]))
    assert (again.number, again.is_new, again.moved) == (1, False, ())
    assert assets.add(new("labels", file("other name", "a.csv"))).number == 3
    shown = assets.version("labels:approved")
    assert (shown.summary.number, shown.summary.message, shown.description) == (1, "first", "what is seen")
    assert (shown.summary.created_by, shown.summary.size, shown.files) == ("mia", 5, (file("a.csv"),))
    assert assets.version("labels").summary.number == 3
    history = assets.history("labels")
    assert [(each.number, each.aliases) for each in history.versions] == [(3, ()), (2, ()), (1, ("approved",))]
    assert [(move.alias, move.number, move.actor) for move in history.moves] == [("approved", 1, "mia")]


def test_an_alias_moves_and_its_history_stays(assets: Assets) -> None:
    assets.add(new(aliases=["approved"]))
    assets.add(new("labels", file("b.csv")))
    assert assets.set_alias("labels@2", "approved", actor="ann", reason="counted again")
    assert not assets.set_alias("labels", "approved", actor="ann")
    assert assets.version("labels:approved").summary.number == 2
    moves = [(move.number, move.actor, move.reason) for move in assets.history("labels").moves]
    assert moves == [(2, "ann", "counted again"), (1, "mia", "uploaded")]
    for alias in ("latest", "3", "v3", "Ä"):
        with pytest.raises(ModelwayError, match="cannot be an alias"):
            assets.set_alias("labels", alias)


def test_references_stay_on_the_version_that_they_meant(assets: Assets) -> None:
    assets.add(new(aliases=["approved"]))
    assert assets.add(new("street", references={"labels": "labels:approved"})).number == 1
    assets.add(new("labels", file("b.csv"), aliases=["approved"]))
    (reference,) = assets.version("street@1").references
    assert (reference.name, reference.asset, reference.number) == ("labels", "labels", 1)
    (back,) = assets.version("labels@1").referred_by
    assert (back.asset, back.number) == ("street", 1)
    # The same files with another version of what they refer to are another version.
    assert assets.add(new("street", references={"labels": "labels:approved"})).number == 2
    assert [each.summary.asset for each in assets.with_references("street")] == ["street", "labels"]
    difference = asset_difference(assets.version("street@1"), assets.version("street@2"))
    assert (difference.same, [each[0] for each in difference.references]) == (1, ["labels"])


def test_what_is_reached_in_two_ways_comes_once_and_circles_end(assets: Assets) -> None:
    assets.add(new("base"))
    assets.add(new("left", references={"base": "base"}))
    assets.add(new("right", references={"base": "base", "left": "left"}))
    assets.add(new("top", references={"l": "left", "r": "right"}))
    # An older version of what it leads to refers to a newer one of itself.
    assets.add(new("base", file("z"), references={"top": "top"}))
    found = [(each.summary.asset, each.summary.number) for each in assets.with_references("base")]
    assert found == [("base", 2), ("top", 1), ("left", 1), ("right", 1), ("base", 1)]


def test_a_refusal_leaves_nothing_behind(assets: Assets) -> None:
    for wrong, message in (
        (new("a/b"), "cannot name an asset"),
        (new("labels", file("../x")), "cannot be a file of an asset"),
        (new("labels", file("a"), file("a")), "has a path twice"),
        (new("labels", file("a"), file("a/b")), "is below a path that is a file itself"),
        (new(aliases=["latest"]), "cannot be an alias"),
        (new(references={"x": "labels"}), "cannot refer to itself"),
        (new(references={"x": "none"}), "there is no asset 'none'"),
        (new(references={"x/y": "labels"}), "cannot name a reference"),
        (new(message="x" * 10_001), "more than 10,000 characters"),
        (NewAssetVersion(name="labels", files=()), "has no files"),
    ):
        with pytest.raises(ModelwayError, match=message):
            assets.add(wrong)
    with pytest.raises(UnknownAsset, match="there is no asset 'labels'. Known: none"):
        assets.version("labels")
    assert assets.find_by_digest(digest("a.csv")) == []
    assert assets.add(new()).number == 1


def test_unknown_versions_are_refused_with_the_known_ones(assets: Assets) -> None:
    assets.add(new(aliases=["approved"]))
    for wanted in ("labels@2", "labels:aproved", "labels:v1"):
        with pytest.raises(UnknownAsset, match=f"has no version '{wanted}'. Known: 1 to 1, approved"):
            assets.version(wanted)


def _add(url: str, index: int) -> int:
    return (
        open_lineage(url)
        .assets.add(new("labels", file(f"{index}.csv"), file("same.csv"), aliases=["latest-one"]))
        .number
    )


def _add_the_same(url: str, index: int) -> int:
    return open_lineage(url).assets.add(new()).number


@pytest.mark.parametrize(("work", "numbers"), [(_add, [1, 2, 3, 4, 5, 6]), (_add_the_same, [1] * 6)])
def test_six_writers_at_once(url: str, work: Any, numbers: list[int]) -> None:
    open_lineage(url)
    replies = FORK.SimpleQueue()
    writers = [FORK.Process(target=lambda i=i: replies.put(work(url, i))) for i in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(replies.get() for _ in writers) == numbers
    history = open_lineage(url).assets.history("labels")
    assert [each.number for each in history.versions] == sorted(set(numbers), reverse=True)


def with_code(run_id: str, code: str = "code", **changes: Any) -> VersionRecord:
    record = make_record(run_id, **changes)
    about = {"code_digest": digest(code), "code_uri": f"file:///store/{code}.zip", "code_size": 10}
    return replace(record, run=replace(record.run, **about))


def test_registering_a_version_writes_its_assets(url: str, assets: Assets) -> None:
    store = open_lineage(url)
    store.register(with_code("one"))
    store.register(with_code("two", base=1))
    store.register(with_code("three", "code2"))
    store.register(with_code("three", "code2"))
    code = assets.history("digits.code").versions
    assert [(each.number, each.created_by) for each in code] == [(2, "mia"), (1, "mia")]
    model = assets.history("digits").versions
    assert [(each.number, each.model_version) for each in model] == [(3, 3), (2, 2), (1, 1)]
    assert model[0].message == "digits version 3"
    two = assets.version("digits@2")
    assert [(each.name, each.asset, each.number) for each in two.references] == [
        ("base", "digits", 1),
        ("code", "digits.code", 1),
    ]
    assert [(each.path, each.digest) for each in two.files] == [("model.zip", digest("archivetwo"))]
    assert [each.path for each in assets.version("digits.code").files] == ["code.zip"]


def _register_or_upload(url: str, index: int) -> int:
    if index % 2:
        return open_lineage(url).register(with_code(f"run-{index}", base=None))
    return (
        open_lineage(url)
        .assets.add(new(("digits", "digits.code")[index // 2 % 2], file(f"{index}"), file("code")))
        .number
    )


def test_registrations_and_uploads_to_the_same_assets_at_once(url: str, assets: Assets) -> None:
    replies = FORK.SimpleQueue()
    writers = [FORK.Process(target=lambda i=i: replies.put(_register_or_upload(url, i))) for i in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    digits, code = assets.history("digits").versions, assets.history("digits.code").versions
    assert [each.number for each in digits] == list(range(9, 0, -1))
    assert sorted(each.model_version for each in digits if each.model_version) == [1, 2, 3, 4, 5, 6]
    assert [each.number for each in code] == list(range(4, 0, -1))


def test_two_versions_with_the_same_archive_are_two_of_the_asset(url: str, assets: Assets) -> None:
    store = open_lineage(url)
    for run in ("one", "two"):
        store.register(with_code(run, archive_digest=digest("same")))
    assert [each.model_version for each in assets.history("digits").versions] == [2, 1]


def test_an_alias_of_the_model_names_its_asset_unless_the_asset_has_its_own(url: str, assets: Assets) -> None:
    store = open_lineage(url)
    # Somebody used the name first: the numbers differ from then on.
    assets.add(new("digits"))
    for run in ("one", "two"):
        store.register(with_code(run))
    store.set_alias(model="digits", alias="champion", version=1)
    assert assets.version("digits:champion").summary.number == 2
    assert assets.version("digits:v2").summary.number == 3
    store.set_alias(model="digits", alias="champion", version=2)
    assert assets.version("digits:champion").summary.number == 3
    assets.set_alias("digits@1", "champion")
    assert assets.version("digits:champion").summary.number == 1


def test_a_version_from_before_without_a_code_package_is_registered_all_the_same(url: str, assets: Assets) -> None:
    open_lineage(url).register(make_record())
    assert assets.version("digits").references == ()
    with pytest.raises(UnknownAsset, match=r"there is no asset 'digits\.code'"):
        assets.history("digits.code")


def test_who_has_a_content_in_assets_and_models(url: str, assets: Assets) -> None:
    held = FileRecord(path="model/labels.csv", digest=digest("a.csv"), size=5)
    open_lineage(url).register(make_record(files=(held,)))
    assets.add(new())
    assets.add(new("street", file("under/another.name", "a.csv")))
    found = [(each.kind, each.name, each.number, each.path) for each in assets.find_by_digest(digest("a.csv"))]
    assert found == [
        ("asset", "street", 1, "under/another.name"),
        ("asset", "labels", 1, "a.csv"),
        ("model", "digits", 1, "model/labels.csv"),
    ]
    archive = [(each.name, each.path) for each in assets.find_by_digest(digest("archivemanual__1"))]
    assert archive == [("digits", "model.zip")]


def test_a_version_of_more_files_than_a_statement_takes(assets: Assets) -> None:
    files = [file(f"images/{number}.png") for number in range(25_000)]
    assert assets.add(new("images", *files)).number == 1
    assert assets.add(new("images", *reversed(files))).is_new is False
    assert len(assets.version("images").files) == 25_000
    assert len(assets.places(each.digest for each in files)) == 25_000


def test_looking_makes_no_database(new_url: str) -> None:
    assert open_lineage(new_url, read_only=True) is None
