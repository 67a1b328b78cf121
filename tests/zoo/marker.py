"""What leaves a harmless file where it is unpickled, in the forms in which people save models."""

import pickle
from pathlib import Path
from typing import Any

import numpy


class Marker:
    """Unpickling it makes an empty file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def write_pickles(folder: Path, marker: Path) -> None:
    """Write pickles under the names that loaders look for."""
    data = pickle.dumps(Marker(marker))
    for name in ("model.pkl", "model.joblib", "pytorch_model.bin", "data.pkl", "sample_inputs.pt"):
        (folder / name).write_bytes(data)
    numpy.save(folder / "objects.npy", numpy.array([Marker(marker)], dtype=object), allow_pickle=True)
