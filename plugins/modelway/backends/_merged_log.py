"""The logs of several nodes as one: lines in the order in which they were first read, each with its node before it.

``merged.txt`` in the try's folder is what was read so far, ``merged.json`` how far each node's own log was read: so
every reader, now or later, gets the same lines at the same offsets. One node's log is read as it is.
"""

import fcntl
from pathlib import Path

from modelway.backends import _generations as generations

BLOCK = 1 << 20


def read_merged(attempt: Path, *, nodes: int, offset: int, over: bool) -> tuple[str, int]:
    """Return what was printed since ``offset`` (bytes), whole lines unless the job is over, and the new offset."""
    if nodes == 1:
        return _read(attempt / "log-0.txt", offset, over=over)
    with (attempt / ".merging").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _merge(attempt, nodes, over)
    return _read(attempt / "merged.txt", offset, over=over)


def _merge(attempt: Path, nodes: int, over: bool) -> None:
    positions = (generations.read(attempt / "merged.json") or {}).get("positions") or [0] * nodes
    merged = attempt / "merged.txt"
    size = (generations.read(attempt / "merged.json") or {}).get("size", 0)
    with merged.open("ab") as file:
        # What a reader wrote that ended before it noted how far it was is written again.
        file.truncate(size)
        for node in range(nodes):
            text, positions[node] = _read(attempt / f"log-{node}.txt", positions[node], over=over)
            file.writelines(f"[node {node}] {line}\n".encode() for line in text.splitlines())
        file.flush()
        size = file.tell()
    generations.write(attempt / "merged.json", {"positions": positions, "size": size})


def _read(path: Path, offset: int, *, over: bool) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(BLOCK)
    except FileNotFoundError:
        return "", offset
    whole = data.rfind(b"\n") + 1
    # A line longer than a block, such as a progress bar's, is given in pieces.
    if whole and len(data) == BLOCK or not over and len(data) < BLOCK:
        data = data[:whole]
    return data.decode(errors="replace"), offset + len(data)
