"""Trainings that are expanded over parameters: what the job of each is called."""

import hashlib
import json
from typing import Any


def map_item(index: int, **given: Any) -> str:
    """Return what names the job of a mapped task: its index, and a digest of what it is given.

    After a clear the same index may be given something else: that must not continue the job of before.
    """
    text = json.dumps(given, sort_keys=True, default=str)
    return f"{index}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
