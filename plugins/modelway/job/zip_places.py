"""Where the data of a stored member begins in its ZIP file, so that it can be read there."""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\x03\x04"


def member_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the offset of a member's data.

    :raises zipfile.BadZipFile: the member is compressed or its header is damaged
    """
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise zipfile.BadZipFile(f"the member '{info.filename}' is not stored as it is")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_SIGNATURE):
        raise zipfile.BadZipFile(f"the header of the member '{info.filename}' is damaged")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)
