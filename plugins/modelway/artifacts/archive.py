"""The model archive: everything that a frozen model is, in one ZIP that is byte-identical for the same inputs.

Members (names after the AMA case study, JSON text in the ``.yml`` ones, since JSON is YAML):

- ``inputs/git_commit.yml``, ``inputs/run_config.yml``, ``inputs/training.yml``: code, configuration, parameters, data
- ``model/``: ONNX program and safetensors weights
- ``outputs/graph_version.txt``, ``outputs/model.yml``, ``outputs/meta.yml``, ``outputs/summary.json``
- ``golden/``: inputs and the checkpoint's answers
- ``rows/``: real rows of the evaluation, where there are any, and the checkpoint's answers; not part of an image
- ``MANIFEST.json``, last: path, size, sha256 and role of every member; ``model_digest`` over the ``model/`` members

Stored uncompressed, names sorted, times 1980-01-01, modes 0644. No run id, time, host or version number is inside.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelway.errors import DigestMismatch
from modelway.job.zip_limits import zip_problem

EPOCH = (1980, 1, 1, 0, 0, 0)
ROLES = {"inputs": "input", "outputs": "output", "model": "model", "golden": "golden", "rows": "rows"}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of the archive."""

    path: str
    size: int
    sha256: str
    role: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What MANIFEST.json says."""

    members: tuple[Member, ...]
    model_digest: str


def write_archive(*, folder: Path, documents: Mapping[str, Any], to: Path) -> Manifest:
    """Write the archive of the files below ``folder`` and of ``documents`` (member name → JSON value) to ``to``."""
    for name, document in documents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    members = []
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            data = (folder / path).read_bytes()
            archive.writestr(_header(path), data)
            role = ROLES.get(PurePosixPath(path).parts[0], "doc")
            members.append(Member(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role))
        manifest = Manifest(members=tuple(members), model_digest=_model_digest(members))
        document = {
            "format": 1,
            "model_digest": manifest.model_digest,
            "files": [vars(member) for member in members],
        }
        archive.writestr(_header("MANIFEST.json"), json.dumps(document, indent=1, sort_keys=True) + "\n")
    return manifest


def _header(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, date_time=EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


def _model_digest(members: list[Member]) -> str:
    """Return the digest of the sorted ``<sha256>  <path>`` lines of the model's own files."""
    lines = sorted(f"{member.sha256}  {member.path}\n" for member in members if member.role == "model")
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(archive: Path) -> Manifest:
    """Return an archive's manifest.

    :raises DigestMismatch: the file is not a whole archive
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            document = json.loads(zipped.read("MANIFEST.json"))
        members = tuple(Member(**entry) for entry in document["files"])
        return Manifest(members=members, model_digest=document["model_digest"])
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
        raise DigestMismatch(
            f"not a whole model archive ({error})", where=str(archive), do="Run the freeze stage again"
        ) from error


def unpack_archive(*, archive: Path, to: Path) -> Manifest:
    """Unpack a model archive into the folder ``to``, checking every member's digest.

    :raises DigestMismatch: a member is missing, damaged, or its name leaves the folder
    """
    manifest = read_manifest(archive)
    with zipfile.ZipFile(archive) as zipped:
        if problem := zip_problem(zipped):
            raise DigestMismatch(f"the archive is not unpacked: {problem}", where=str(archive))
        for member in manifest.members:
            name = PurePosixPath(member.path)
            if name.is_absolute() or ".." in name.parts:
                raise DigestMismatch(f"the member '{member.path}' leaves the folder", where=str(archive))
            try:
                data = zipped.read(member.path)
            except (KeyError, zipfile.BadZipFile) as error:
                raise DigestMismatch(f"the member '{member.path}' is damaged ({error})", where=str(archive)) from error
            if hashlib.sha256(data).hexdigest() != member.sha256:
                raise DigestMismatch(f"the member '{member.path}' is not what MANIFEST.json says", where=str(archive))
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (to / "MANIFEST.json").write_bytes(zipped.read("MANIFEST.json"))
    return manifest
