"""Where the data of a stored member begins in its ZIP file, so that it can be read there."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BLOCK = 1 << 20
_SIGNATURE = b"PK\x03\x04"


def member_blocks(zipped: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """Yield a member's bytes; what is stored as it is, without the archive's own checksum: readers have a digest.

    :raises KeyError: there is none of that name
    :raises zipfile.BadZipFile: the member is damaged
    """
    info = zipped.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or zipped.filename is None:
        with zipped.open(info) as member:
            while block := member.read(_BLOCK):
                yield block
        return
    with open(zipped.filename, "rb") as file:
        file.seek(member_offset(file, info))
        left = info.file_size
        while left and (block := file.read(min(left, _BLOCK))):
            left -= len(block)
            yield block


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
