"""What goes into a model and what comes out: ``outputs/model.yml`` of the frozen model (JSON text, so YAML too)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelway.server.refusal import CannotServe

#: datatypes of the Open Inference Protocol v2 that are served, with numpy's little-endian type of each
DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BYTES": np.dtype(object),
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; -1 in ``shape`` stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of ``datatype``."""
        return DATATYPES[self.datatype]

    def document(self) -> dict[str, Any]:
        """Return the tensor as the protocol's metadata shows it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """Name, platform, inputs and outputs of one model."""

    name: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor is free, so that requests can share one call."""
        return all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))


def read_signature(path: Path) -> Signature:
    """Return the signature written at ``path``.

    :raises CannotServe: when the file is missing, is not JSON or lacks a field
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotServe(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CannotServe(f"{path}: is not JSON ({error})") from error
    try:
        return Signature(
            name=str(document["name"]),
            platform=str(document.get("platform", "onnxruntime_onnx")),
            inputs=tuple(_tensor(entry) for entry in document["inputs"]),
            outputs=tuple(_tensor(entry) for entry in document["outputs"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CannotServe(f"{path}: name, inputs or outputs are not as expected ({error!r})") from error


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    if entry["datatype"] not in DATATYPES:
        raise ValueError(f"datatype {entry['datatype']!r} is not one of {', '.join(DATATYPES)}")
    return TensorSpec(str(entry["name"]), entry["datatype"], tuple(int(length) for length in entry["shape"]))
