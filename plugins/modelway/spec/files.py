"""Reading the small text files of a model's folder, whatever lies there in their place."""

import stat
from pathlib import Path

from modelway.spec.problems import Refusal

LARGEST_BYTES = 1_000_000


def read_bytes(file: Path) -> bytes:
    """Return the content of a file of at most 1 MB.

    :raises Refusal: it cannot be read, is no regular file, or is larger
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise Refusal("this is not a regular file", do="Put a text file there")
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise Refusal(f"the file cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > LARGEST_BYTES:
        raise Refusal("the file is larger than 1 MB", do="Keep data out of it")
    return content


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file of at most 1 MB.

    :raises Refusal: as ``read_bytes``, or it is not UTF-8
    """
    content = read_bytes(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = (before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise Refusal("the text is not UTF-8", do="Save the file as UTF-8", place=place) from None
