"""A share of the requests with their answers, written into a folder as lines of JSON, for a replay or a comparison."""

import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from modelway.server.core.refusal import CannotServe
from modelway.server.core.tensors import Array, to_json_with_infinities

#: requests that wait to be written, and bytes of the tensors of one; more are left out
_MAX_PENDING, _MAX_BYTES = 64, 256 << 10
#: bytes of the file, after which it becomes the older one and that one is gone
_MAX_FILE = 16 << 20


class Samples:
    """Chooses requests at random; :meth:`write` writes them, off the event loop."""

    def __init__(self, folder: Path, *, share: float, model: str, version: str) -> None:
        """Write into ``folder``.

        :param share: of the requests, from 0 to 1
        :raises CannotServe: when the folder cannot be written
        """
        self._path = folder / "samples.jsonl"
        self._share = share
        self._names = {"model_name": model, "model_version": version}
        self._pending: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path.open("ab").close()
        except OSError as error:
            raise CannotServe(f"{folder}: samples cannot be written ({error.strerror})") from error

    def offer(self, identity: str | None, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Keep a request, perhaps, until the next :meth:`write`."""
        if random.random() >= self._share or len(self._pending) >= _MAX_PENDING:
            return
        if sum(array.nbytes for arrays in (inputs, outputs) for array in arrays.values()) <= _MAX_BYTES:
            found = {**self._names, "time": time.time(), "id": identity, "inputs": inputs, "outputs": outputs}
            self._pending.append(found)

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._pending)

    def write(self) -> None:
        """Append what is kept; a full disk loses samples, not requests."""
        with self._lock:
            lines = []
            while self._pending:
                found = self._pending.popleft()
                for side in ("inputs", "outputs"):
                    found[side] = [_entry(name, array) for name, array in found[side].items()]
                lines.append(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
            if not lines:
                return
            try:
                if self._path.stat().st_size > _MAX_FILE:
                    self._path.replace(self._path.with_name("samples.old.jsonl"))
                with self._path.open("ab") as file:
                    file.writelines(lines)
            except OSError as error:
                print(f"modelway.server: {self._path}: samples are lost ({error.strerror})", flush=True)


def _entry(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "data": to_json_with_infinities(array)}
