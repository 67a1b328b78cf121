"""Weights in files of a limited size."""

from pathlib import Path

import numpy
import pytest
from modelway.job.freezing import shards
from modelway.job.freezing.shards import write_shards
from modelway.job.freezing.tensor_file import Later, read_tensors


def weights(count: int, *, change: int | None = None) -> dict[str, numpy.ndarray]:
    return {f"layer.{n}": numpy.full(25, n if n != change else -1, dtype="float32") for n in range(count)}


def test_small_weights_are_one_file(tmp_path: Path) -> None:
    places = write_shards(tmp_path, weights(3))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    for name, array in weights(3).items():
        place = places[name]
        data = (tmp_path / place.file).read_bytes()[place.offset : place.offset + place.length]
        numpy.testing.assert_array_equal(numpy.frombuffer(data, dtype="float32"), array)


def test_more_are_divided_in_their_own_order_and_a_changed_layer_changes_one_file(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    places = write_shards(tmp_path / "one", weights(10), shard_bytes=300)
    write_shards(tmp_path / "other", weights(10, change=9), shard_bytes=300)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    assert [places[name].file for name in weights(10)] == sorted(each.file for each in places.values())
    changed = [
        name for name in files if (tmp_path / "one" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    ]
    assert changed == [files[-1]]
    found = {name: each for file in files for name, each in read_tensors(tmp_path / "one" / file).items()}
    assert found.keys() == weights(10).keys()


@pytest.mark.parametrize("count", [100, 1000])
def test_there_are_never_more_files_than_an_image_has_layers(tmp_path: Path, count: int) -> None:
    write_shards(tmp_path, weights(count), shard_bytes=100)
    assert len(list(tmp_path.iterdir())) <= 2 * shards.MOST_FULL_SHARDS


def test_a_tensor_larger_than_a_file_is_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LARGEST_SHARD_BYTES", 300)
    large = Later(dtype="float32", shape=(200,), read=lambda: numpy.zeros(200, dtype="float32"))
    places = write_shards(tmp_path, {"a": weights(1)["layer.0"], "large": large, "z": weights(1)["layer.0"]})
    assert [place.file[:11] for place in places.values()] == ["model-00001", "model-00002", "model-00003"]
