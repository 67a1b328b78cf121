"""The logs of several nodes as one: lines in the order in which they were first read, each with its node before it.

``merged.txt`` in the attempt's folder is what was read so far, ``merged.json`` how far each node's own log was read: so
every reader, now or later, gets the same lines at the same offsets. One node's log is read as it is.
"""

from pathlib import Path

from modelway.artifacts.whole_files import lock
from modelway.backends.folders import generations
from modelway.job.left_files import NotBelow, append_below, open_below

BLOCK = 1 << 20


def read_merged(attempt: Path, *, nodes: int, offset: int, over: bool) -> tuple[str, int]:
    """Return what was printed since ``offset`` (bytes), whole lines unless the job is over, and the new offset.

    Anything else that the job left in the place of a log, such as a link out of its folder, has no lines.
    """
    if nodes == 1:
        return read_log(attempt, "log-0.txt", offset, over=over)
    try:
        with append_below(attempt.parent, f"{attempt.name}/.merging") as file:
            lock(file)
            _merge(attempt, nodes, over)
    except NotBelow:
        return "", offset
    return read_log(attempt, "merged.txt", offset, over=over)


def _merge(attempt: Path, nodes: int, over: bool) -> None:
    before = generations.read(attempt / "merged.json") or {}
    positions, size = before.get("positions") or [0] * nodes, before.get("size", 0)
    with append_below(attempt.parent, f"{attempt.name}/merged.txt") as file:
        # What a reader wrote before it could record its position is written again.
        file.truncate(size)
        for node in range(nodes):
            text, positions[node] = read_log(attempt, f"log-{node}.txt", positions[node], over=over)
            file.writelines(f"[node {node}] {line}\n".encode() for line in text.splitlines())
        file.flush()
        size = file.tell()
    generations.write(attempt / "merged.json", {"positions": positions, "size": size})


def read_log(attempt: Path, name: str, offset: int, *, over: bool) -> tuple[str, int]:
    """Return a block of an attempt's own log: whole lines unless the job is over, whole characters always."""
    try:
        with open_below(attempt.parent, f"{attempt.name}/{name}") as file:
            file.seek(offset)
            data = file.read(BLOCK)
    except (FileNotFoundError, NotADirectoryError, NotBelow):
        return "", offset
    whole = data.rfind(b"\n") + 1
    # A line longer than a block, such as a progress bar's, is returned in pieces.
    if whole and len(data) == BLOCK or not over and len(data) < BLOCK:
        data = data[:whole]
    elif len(data) == BLOCK:
        data = data[: len(data) - _incomplete_bytes(data)]
    return data.decode(errors="replace"), offset + len(data)


def _incomplete_bytes(data: bytes) -> int:
    """Return how many bytes at the end belong to a character that continues in the next block."""
    for back in range(1, 4):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2) else 0
        if byte < 0x80:
            return 0
    return 0
