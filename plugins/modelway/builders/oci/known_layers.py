"""The digests of layers that were built before, by the files that they are made of.

So an image that has not changed is built again without reading its files. A registry compares what it receives with
the digest: an entry that is wrong is found there and removed.
"""

import json
import os
import uuid
from contextlib import suppress
from pathlib import Path

from modelway.oci.manifest import is_digest


class KnownLayers:
    """A folder with a small file for each layer; without a folder, nothing is known."""

    def __init__(self, folder: Path | None) -> None:
        """Name the folder; it is made by the first entry."""
        self._folder = folder

    def find(self, identity: str, *, size: int) -> str | None:
        """Return the digest of a layer, None where it is not known.

        :param identity: see ``LayerTar``
        :param size: of the layer, in bytes
        """
        if self._folder is None:
            return None
        try:
            entry = json.loads((self._folder / identity).read_bytes())
            digest = str(entry["digest"])
            return digest if is_digest(digest) and entry["size"] == size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def add(self, identity: str, *, digest: str, size: int) -> None:
        """Record a layer's digest; where that fails, the layer is read again the next time."""
        if self._folder is None:
            return
        beside = self._folder / f".{uuid.uuid4().hex}"
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps({"digest": digest, "size": size}))
            os.replace(beside, self._folder / identity)

    def remove(self, identity: str) -> None:
        """Forget a layer whose recorded digest was wrong."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / identity).unlink()
