"""Aligned tables and JSON, as the commands print them."""

import io
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def table(*columns: str) -> "Table":
    """Return a table without lines, to be filled with ``add_row``."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made


def print_table(made: "Table") -> None:
    """Print aligned text as wide as it is: a terminal wraps it, a pipe gets whole lines."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, markup=False, emoji=False, highlight=False).print(made)
    sys.stdout.writelines(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def print_facts(facts: dict[str, str]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}".rstrip())


def print_json(value: Any) -> None:
    """Print what the lineage returned as JSON."""
    from modelway.lineage.records.values import plain

    print(json.dumps(plain(value), indent=2, ensure_ascii=False))
