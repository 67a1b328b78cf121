"""What goes into a model and what comes out: ``outputs/model.yml`` of the frozen model (JSON text, so YAML too)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelway.server.core.bfloat16 import BF16
from modelway.server.core.refusal import CannotServe

#: datatypes of the Open Inference Protocol v2 that are served, with numpy's little-endian type of each; BF16, which it
#: lacks, has that of FP32 (see ``bfloat16``)
DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    BF16: np.dtype("<f4"),
    "BYTES": np.dtype(object),
}

#: the program's name of the dimension that counts rows; one of another name may be a number of samples or edges
BATCH = "batch"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; -1 in ``shape`` stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    #: the program's name of each free length, where it has one; lengths of one name are equal in a request
    symbols: tuple[str | None, ...] = ()

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of ``datatype``."""
        return DATATYPES[self.datatype]

    @cached_property
    def is_bfloat16(self) -> bool:
        """Whether its values are rounded to BF16, and have two bytes each on the wire."""
        return self.datatype == BF16

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
    #: what verification found: rows do not depend on one another, and come out in the order in which they went in
    rows_are_independent: bool = False
    #: why, or why not, as the verification phrased it
    batches_reason: str | None = None

    @property
    def batches(self) -> bool:
        """Whether rows of several requests may share one call: only where that was proven."""
        return self.rows_are_independent and all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))

    def parameters(self) -> dict[str, Any]:
        """Return what the model's metadata shows besides the tensors: whether requests are joined, and why."""
        reason = {} if self.batches_reason is None else {"batches_reason": self.batches_reason}
        return {"batches": self.batches, **reason}

    @cached_property
    def has_rows(self) -> bool:
        """Whether the first dimension of all inputs is one batch."""
        named = all(spec.symbols[:1] == (BATCH,) for spec in self.inputs)
        together = self.rows_are_independent or named
        return bool(self.inputs) and together and all(spec.shape[:1] == (-1,) for spec in self.inputs)

    @cached_property
    def equal_lengths(self) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
        """Symbols that stand for several lengths of the inputs, each with the (input, dimension) that have it."""
        places: dict[str, list[tuple[str, int]]] = {}
        for spec in self.inputs:
            for at, symbol in enumerate(spec.symbols):
                if symbol is not None:
                    places.setdefault(symbol, []).append((spec.name, at))
        return tuple((symbol, tuple(found)) for symbol, found in places.items() if len(found) > 1)

    @cached_property
    def all_outputs(self) -> tuple[tuple[tuple[TensorSpec, bool], ...], ...]:
        """All outputs, each with whether it is binary: first that none is, then that all are."""
        return tuple(tuple((spec, binary) for spec in self.outputs) for binary in (False, True))

    @cached_property
    def known_inputs(self) -> Mapping[str, TensorSpec]:
        """The inputs by name."""
        return {spec.name: spec for spec in self.inputs}


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
            rows_are_independent=document.get("batches") is True,
            batches_reason=_reason(document.get("batches_reason")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CannotServe(f"{path}: name, inputs or outputs are not as expected ({error!r})") from error


def _reason(value: object) -> str | None:
    return None if value is None else str(value)


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    if entry["datatype"] not in DATATYPES:
        raise ValueError(f"datatype {entry['datatype']!r} is not one of {', '.join(DATATYPES)}")
    symbols = tuple(None if name is None else str(name) for name in entry.get("symbols", ()))
    return TensorSpec(str(entry["name"]), entry["datatype"], tuple(int(length) for length in entry["shape"]), symbols)
