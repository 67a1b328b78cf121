"""The PostgreSQL of the benchmark: its sizes, and the CPU that it takes."""

import os
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_TABLES = "SELECT relname FROM pg_stat_user_tables ORDER BY relname"


def size(connection: Any) -> dict[str, int]:
    """Return the rows and bytes of a database, indexes included, once what is no longer needed is given back."""
    connection.execute("VACUUM ANALYZE")
    tables = [name for (name,) in connection.execute(_TABLES).fetchall()]
    counts = " UNION ALL ".join(f'SELECT count(*) AS n FROM "{name}"' for name in tables)
    (rows,) = connection.execute(f"SELECT sum(n) FROM ({counts}) AS counted").fetchone()
    (used,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return {"rows": int(rows), "bytes": int(used)}


def cpu_seconds(server: int) -> float:
    """Return the CPU that a server's processes took until now, those that have ended included.

    :param server: the process that started the others
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        is_server = int(path.parent.name) == server
        if is_server or int(fields[1]) == server:
            # utime and stime; of the server also those of its ended children.
            ticks += sum(map(int, fields[11:15] if is_server else fields[11:13]))
    return ticks / _TICKS
