"""The server compares the files of a model with their digests before it is ready."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from modelway.server.core.refusal import CannotServe
from modelway.server.core.whole import check_files

from tests.model_server import serving, start
from tests.tiny_model import write_model

WEIGHTS = "model/model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A frozen model as an image has it; the manifest lists files that no image has, too."""
    folder = write_model(tmp_path / "models", scale=2)
    files = [
        {"path": str(path.relative_to(folder)), "role": path.parent.name.rstrip("s")} for path in folder.rglob("*.*")
    ]
    for entry in files:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files.append({"path": "inputs/training.yml", "role": "input", "size": 1, "sha256": "0" * 64})
    (folder / "MANIFEST.json").write_text(json.dumps({"format": 1, "files": files}))
    return folder


def test_a_whole_model_is_served(model: Path, tmp_path: Path) -> None:
    assert check_files(model) == 3
    with serving(tmp_path, "--model-dir", str(model), "--port", "0") as server:
        assert server.ask("GET", "/v2/health/ready")[0] == 200


def test_a_folder_without_a_manifest_is_served_as_it_is(model: Path) -> None:
    (model / "MANIFEST.json").unlink()
    assert check_files(model) == 0


def changed(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def of_another_size(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("fault", "where", "message"),
    [
        (Path.unlink, WEIGHTS, "cannot be read (No such file or directory)"),
        (changed, WEIGHTS, "is not the file that was frozen"),
        (of_another_size, WEIGHTS, "bytes instead of"),
        (changed, "outputs/model.yml", "is not the file that was frozen"),
        (of_another_size, "MANIFEST.json", "is no manifest of a frozen model"),
    ],
)
def test_a_file_that_is_not_the_frozen_one_is_named(
    fault: Callable[[Path], None], where: str, message: str, model: Path
) -> None:
    fault(model / where)
    with pytest.raises(CannotServe) as error:
        check_files(model)
    assert str(error.value).startswith(f"{model / where}: ")
    assert message in str(error.value)


def test_the_server_does_not_start_with_another_file(model: Path, tmp_path: Path) -> None:
    changed(model / WEIGHTS)
    process = start(tmp_path, "--model-dir", str(model), "--port", "0")
    assert "is not the file that was frozen" in process.communicate(timeout=60)[1]
    assert process.returncode == 2
    with serving(tmp_path, "--model-dir", str(model), "--port", "0", "--files-are-checked"):
        pass


def test_an_image_that_is_mounted_as_an_empty_folder_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    process = start(tmp_path, "--model-dir", str(tmp_path / "models"), "--port", "0")
    assert f"{tmp_path / 'models/outputs/model.yml'}: cannot be read" in process.communicate(timeout=60)[1]
    assert process.returncode == 2
