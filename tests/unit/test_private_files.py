"""A file whose name begins with an underscore is for its own room: its folder, and what lies in that."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "plugins"
SOURCES = [path for room in ("plugins", "tests", "bench", "dags") for path in sorted((ROOT / room).rglob("*.py"))]


#: every private file and folder; a file whose text names none of them imports none of them
PRIVATE = re.compile(
    r"\b(?:" + "|".join(sorted({path.stem for path in LIBRARY.rglob("_*") if not path.stem.startswith("__")})) + r")\b"
)


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file may import, as far as they are ours and may be private."""
    text = path.read_text()
    if not PRIVATE.search(text):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("modelway."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("modelway"):
            yield str(node.module)
            yield from (f"{node.module}.{each.name}" for each in node.names if is_file(f"{node.module}.{each.name}"))


def is_file(module: str) -> bool:
    return (LIBRARY / module.replace(".", "/")).with_suffix(".py").is_file()


def private_rooms(module: str) -> Iterator[str]:
    """Yield the packages that the private files of a module's path belong to."""
    parts = module.split(".")
    for place, part in enumerate(parts):
        if part.startswith("_") and not part.startswith("__"):
            yield ".".join(parts[:place])


def room_of(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY).parent.parts) if path.is_relative_to(LIBRARY) else ""


def crossing(path: Path) -> list[str]:
    """Return what a file imports of another room's private files."""
    room = room_of(path)
    found = {module for module in imported(path) for private in private_rooms(module) if not within(room, private)}
    return [f"{path.relative_to(ROOT)} imports {module}" for module in sorted(found)]


def within(room: str, of: str) -> bool:
    return room == of or room.startswith(f"{of}.")


#: tests that still import private files of the room that they test; nothing is added here
TESTS_OF_PRIVATE_FILES = {
    "tests/contract/test_jobs_elsewhere.py",
    "tests/contract/test_mlflow_exporter.py",
    "tests/contract/test_openlineage_exporter.py",
    "tests/unit/test_cli_versions.py",
}


def test_an_import_of_a_private_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from modelway.operators import (\n    _checks as checks,\n)\n")
    assert list(imported(tmp_path / "other.py")) == ["modelway.operators", "modelway.operators._checks"]
    assert len(SOURCES) > len([path for path in SOURCES if PRIVATE.search(path.read_text())]) > 20


def test_no_private_file_is_imported_across_rooms() -> None:
    found = [line for path in SOURCES for line in crossing(path)]
    assert [line for line in found if line.split()[0] not in TESTS_OF_PRIVATE_FILES] == []
