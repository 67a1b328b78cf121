"""Which backends, builders and endpoints there are: the files of their rooms, listed without importing them."""

import pkgutil
from functools import cache
from pathlib import Path

import modelway


@cache
def known_names(room: str) -> tuple[str, ...]:
    """Return the names of what lives in a room, sorted: its files but ``base`` and those that begin with ``_``."""
    folders = [str(Path(folder) / room) for folder in modelway.__path__]
    names = {module.name for module in pkgutil.iter_modules(folders)}
    return tuple(sorted(name for name in names if name != "base" and not name.startswith("_")))
