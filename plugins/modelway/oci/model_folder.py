"""The model's folder of an image, fetched into a folder that may be a mount point, such as a volume of a pod."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelway.artifacts.whole_files import locked, sync_folder
from modelway.errors import ImageInvalid, NotWritable
from modelway.oci.contents import entries, is_unpacked, mark_unpacked
from modelway.oci.images import open_source, this_architecture
from modelway.oci.manifest import parse_reference, read_image
from modelway.oci.unpack import unpack_layers

#: marks a folder as one that is filled here; locked while somebody does
_LOCK = ".modelway-loader"
#: what the root of a file system has of its own
_NOT_OURS = ("lost+found",)


def fetch_model_folder(*, reference: str, path: str, into: Path, insecure: bool = False) -> bool:
    """Fetch the folder ``path`` of an image, so that its contents are those of the folder ``into``.

    All digests are checked while the layers are read; ``into`` gets its files when all of them are there. It can be
    called again: what is there and unchanged is not fetched, and what a killed call left, or another image, is
    replaced. The login is that of Docker's settings, and mirrors are read first.

    :param reference: ``<host>/<repository>@sha256:…`` or ``oci-layout:<folder>@sha256:…``
    :param insecure: speak HTTP with a registry on another machine
    :returns: whether it was fetched; it was there otherwise
    :raises ImageInvalid: the reference has no digest, or the image is damaged or has no such folder
    :raises NotWritable: ``into`` cannot be written, or has files of somebody else
    :raises RegistryError: the registry refuses or does not answer
    """
    parsed = parse_reference(reference)
    try:
        into.mkdir(parents=True, exist_ok=True)
        _refuse_others(into)
        with locked(into / _LOCK):
            if is_unpacked(into, digest=_marked(parsed.digest, path)):
                return False
            for left in into.glob(f"{_LOCK}.*"):
                shutil.rmtree(left)
            beside = into / f"{_LOCK}.{uuid.uuid4().hex}"
            beside.mkdir()
            try:
                with open_source(reference=parsed, insecure=insecure) as source:
                    image = read_image(source, parsed.digest, architecture=this_architecture())
                    unpack_layers(source=source, image=image, root=beside, below=path)
                _replace(into, _model_folder(beside, path, where=reference))
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            mark_unpacked(into, digest=_marked(parsed.digest, path))
    except OSError as error:
        what = f"the folder cannot be written ({error.strerror or error})"
        raise NotWritable(what, where=str(into), do="Mount a writable folder with space for the model there") from error
    return True


def _marked(digest: str, path: str) -> str:
    return f"{digest} {path}"


def _refuse_others(into: Path) -> None:
    """Reject a folder with files that were not fetched: they would be removed."""
    if not (into / _LOCK).exists() and any(_contents(into)):
        do = "Name an empty folder; it is the loader's own"
        raise NotWritable("the folder has files that are not of a model's image", where=str(into), do=do)


def _contents(into: Path) -> Iterator[Path]:
    return (each for each in into.iterdir() if each.name not in _NOT_OURS and not each.name.startswith(_LOCK))


def _model_folder(root: Path, path: str, *, where: str) -> Path:
    """Return the model's folder in an unpacked image."""
    folder = root / path.strip("/")
    if ".." in Path(path).parts or not folder.is_dir() or not folder.resolve().is_relative_to(root.resolve()):
        do = "Name the folder that the model is in, as image.path of its spec has it"
        raise ImageInvalid(f"the image has no folder {path}", where=where, do=do)
    for entry in entries(folder):
        if entry.is_symlink() and not entry.resolve().is_relative_to(folder.resolve()):
            raise ImageInvalid(f"the link {entry.relative_to(root)} leads out of the model's folder", where=where)
    return folder


def _replace(into: Path, model: Path) -> None:
    """Move the files of ``model`` into a folder that is emptied before."""
    for old in _contents(into):
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    for new in model.iterdir():
        new.rename(into / new.name)
    sync_folder(into)
