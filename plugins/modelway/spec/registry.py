"""Which backends, builders and endpoints there are: the files of their rooms, read without importing them."""

import ast
from functools import cache
from pathlib import Path

import modelway


@cache
def known_names(room: str) -> tuple[str, ...]:
    """Return the names of what lives in a room, sorted: its packages that have a file called like the port."""
    port = room.removesuffix("s")
    return tuple(
        sorted({file.parent.name for above in modelway.__path__ for file in Path(above, room).glob(f"*/{port}.py")})
    )


@cache
def capabilities(backend: str) -> frozenset[str] | None:
    """Return what a backend gives on one machine or another: ``POSSIBLE`` of its file. None where nothing tells."""
    files = [Path(folder) / "backends" / backend / "backend.py" for folder in modelway.__path__]
    file = next((file for file in files if backend in known_names("backends") and file.is_file()), None)
    for statement in ast.parse(file.read_bytes()).body if file else ():
        if isinstance(statement, ast.Assign) and [getattr(one, "id", "") for one in statement.targets] == ["POSSIBLE"]:
            words = [node.value for node in ast.walk(statement.value) if isinstance(node, ast.Constant)]
            return frozenset(map(str, words))
    return None
