"""The weights of a frozen model as safetensors files of a limited size, so that an unchanged one is not sent again.

Tensors are written in the model's own order: what a new version shares with the one before is in the same files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.tensor_file import Later, tensor_bytes, write_tensors

if TYPE_CHECKING:
    import numpy

#: a file with the weights of a small model
FILE = "model.safetensors"
#: weights of more bytes are divided among several files
SHARD_BYTES = 256_000_000
#: the files grow before they are twice as many, since an image has a layer for each, and not many
MOST_FULL_SHARDS = 20
#: no file has more, except one with a single larger tensor
LARGEST_SHARD_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are."""

    file: str
    offset: int
    length: int


def write_shards(
    folder: Path, tensors: Mapping[str, numpy.ndarray[Any, Any] | Later], *, shard_bytes: int = SHARD_BYTES
) -> dict[str, Place]:
    """Write tensors into ``model.safetensors``, or ``model-00001-of-00003.safetensors`` and so on; return their places.

    :param shard_bytes: the size of a file, in bytes
    :raises ValueError: as for :func:`modelway.job.freezing.tensor_file.write_tensors`
    """
    shards = _divided(tensors, shard_bytes)
    places: dict[str, Place] = {}
    for number, names in enumerate(shards, start=1):
        file = FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        written = {name: tensors[name] for name in names}
        # Not synced: the archive is made of them, and is; where a machine breaks down before, verifying finds out.
        for name, (offset, length) in write_tensors(folder / file, written, synced=False).items():
            places[name] = Place(file=file, offset=offset, length=length)
    return places


def _divided(tensors: Mapping[str, numpy.ndarray[Any, Any] | Later], shard_bytes: int) -> list[list[str]]:
    """Return the names of the tensors of each file, in order; one file without any tensor where there are none."""
    sizes = {name: tensor_bytes(tensor) for name, tensor in tensors.items()}
    limit = min(LARGEST_SHARD_BYTES, max(shard_bytes, math.ceil(sum(sizes.values()) / MOST_FULL_SHARDS)))
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
