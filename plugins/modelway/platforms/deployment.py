"""Which deployment of Airflow a process belongs to: two on one platform may have models and runs of equal names.

``MODELWAY_DEPLOYMENT`` says it. Else it follows from where the artifacts are, which all processes of a deployment
share: the URL of an object store, or a random token in the folder of artifacts (by default the home).
"""

import hashlib
import os
import uuid
from pathlib import Path

from modelway.errors import NotWritable

FILE = "deployment"


def digest(text: str) -> str:
    """Return a short digest that may stand in a label."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def known_deployment(home: Path) -> str | None:
    """Return the token of this deployment; None where nothing was ever submitted from its home."""
    if named := os.environ.get("MODELWAY_DEPLOYMENT"):
        return digest(named)
    folder = _folder(home)
    if isinstance(folder, str):
        return digest(folder)
    try:
        return (folder / FILE).read_text().strip() or None
    except OSError:
        return None


def deployment(home: Path) -> str:
    """Return the token of this deployment, made now where there is none yet.

    :raises NotWritable: the folder that holds it cannot be written
    """
    if known := known_deployment(home):
        return known
    folder = Path(_folder(home))
    beside = folder / f".{FILE}.{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(uuid.uuid4().hex[:16])
        try:
            # Of two processes that create it at the same time, both use the one that was first.
            os.link(beside, folder / FILE)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
        return (folder / FILE).read_text().strip()
    except OSError as error:
        raise NotWritable(
            f"the token that distinguishes this Airflow's jobs from another's cannot be written ({error.strerror})",
            where=str(folder / FILE),
            do="Make the folder writable for the Airflow worker, point MODELWAY_HOME to one that is, or set "
            "MODELWAY_DEPLOYMENT to a name of this Airflow's own",
        ) from error


def _folder(home: Path) -> Path | str:
    """Return the folder that a deployment's processes share, or the URL that names it for all of them."""
    root = os.environ.get("MODELWAY_ARTIFACT_ROOT") or ""
    if "://" in root and not root.startswith("file://"):
        return root.rstrip("/")
    return Path(root.removeprefix("file://")) if root else home
