"""Whether a zip archive may be unpacked: inspected before its first member is."""

from __future__ import annotations

import os
import zipfile
from collections import Counter

MOST_MEMBERS = 100_000
#: unpacked bytes for each byte of the archive, above ``SMALL_BYTES``
MOST_RATIO = 100
SMALL_BYTES = 1 << 30


def zip_problem(archive: zipfile.ZipFile) -> str | None:
    """Return a short reason why an archive must not be unpacked, or None.

    The sizes are those in its directory; no more than that is read of a member.
    """
    members = archive.infolist()
    file = archive.fp
    size = os.fstat(file.fileno()).st_size if file else 0
    if len(members) > MOST_MEMBERS:
        return f"it has {len(members):,} members, at most {MOST_MEMBERS:,} are unpacked"
    name, times = Counter(member.filename for member in members).most_common(1)[0] if members else ("", 0)
    if times > 1:
        return f"the member '{name}' is in it twice"
    if sum(member.compress_size for member in members) > size:
        return "its members overlap"
    most = max(SMALL_BYTES, MOST_RATIO * size)
    if (unpacked := sum(member.file_size for member in members)) > most:
        return f"it unpacks to {unpacked:,} bytes, at most {most:,} are unpacked"
    return None
