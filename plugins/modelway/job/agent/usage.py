"""What a job uses: each machine's account of an attempt, ``try-<n>/usage-<node>-<id>.json``, renewed while it runs.

``{"seconds": since it began, "cpu_seconds": of all its processes}``. The parent of the job's processes on a machine
writes it, so that killed ones count too; the next container of the same attempt has a file of its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import uuid
from pathlib import Path

from modelway.job.agent import process_tree
from modelway.job.left_files import document_below, names_below

#: what a machine used since the last time is lost with it
RENEW_SECONDS = 10.0
#: of an attempt: its machines, each as often as its container was started
MOST_ACCOUNTS = 10_000
LARGEST_ACCOUNT = 64 << 10
_TRY = re.compile(r"try-\d{1,9}")


class Account:
    """What this process's children use, for one attempt of a job on one machine."""

    def __init__(self, *, attempt: Path, node: int = 0) -> None:
        """Begin to count."""
        self._path = attempt / f"usage-{node}-{uuid.uuid4().hex[:8]}.json"
        self._started = self._written = time.monotonic()

    def renew(self) -> None:
        """Write the account when the last time is long ago."""
        if time.monotonic() - self._written >= RENEW_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was used so far; a full disk or a lost folder is reported elsewhere."""
        self._written = time.monotonic()
        used = {"seconds": self._written - self._started, "cpu_seconds": process_tree.cpu_seconds()}
        beside = self._path.with_name(f".{self._path.name}.part")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps({name: round(value, 3) for name, value in used.items()}))
            beside.replace(self._path)


def usage_in(folder: Path) -> tuple[float | None, float]:
    """Return the processor seconds of a job's attempts on all machines, and the seconds of those before the last.

    None: no machine reported its usage.
    """
    attempts = sorted((name for name in names_below(folder) if _TRY.fullmatch(name)), key=lambda name: int(name[4:]))
    accounts = [_accounts(folder, each) for each in attempts]
    # The machines of an attempt work at the same time: the time of one is that of all.
    earlier = sum(max((account["seconds"] for account in each), default=0.0) for each in accounts[:-1])
    cpu = [account["cpu_seconds"] for each in accounts for account in each]
    return round(sum(cpu), 3) if cpu else None, round(earlier, 3)


def _accounts(folder: Path, attempt: str) -> list[dict[str, float]]:
    names = [name for name in names_below(folder, attempt) if name.startswith("usage-") and name.endswith(".json")]
    found = (_read(folder, f"{attempt}/{name}") for name in names[:MOST_ACCOUNTS])
    return [account for account in found if account]


def _read(folder: Path, name: str) -> dict[str, float] | None:
    """Return an account; None for one that is half written, or not written by this class."""
    written = document_below(folder, name, most=LARGEST_ACCOUNT) or {}
    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):
        found = {name: float(written[name]) for name in ("seconds", "cpu_seconds")}
        return found if all(0 <= value < math.inf for value in found.values()) else None
    return None
