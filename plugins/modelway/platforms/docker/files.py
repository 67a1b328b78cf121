"""Small files of containers, whether or not these run."""

import io
import tarfile

from modelway.platforms.docker.engine import Engine


def read_file(engine: Engine, container: str, path: str) -> str | None:
    """Return the text of a small file of a container; None: it is not there."""
    packed = engine.get(container, path)
    if packed is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed))) as archive:
        member = next(iter(archive), None)
        file = archive.extractfile(member) if member is not None and member.isreg() else None
        return file.read().decode(errors="replace") if file else None
