"""Weights that stay in the layer of an image layout, where the model's program reads them: no second copy of them."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from modelway.artifacts.sharing import share
from modelway.artifacts.whole_files import blocks
from modelway.errors import ImageInvalid
from modelway.job.file_marks import mark_digest
from modelway.job.freezing.external_data import external_files, relocated
from modelway.oci.unpack import FileInLayer

#: smaller files are copied
LEAST_BYTES = 1 << 20
PROGRAM = "model.onnx"


class WeightsInPlace:
    """Gives the layer a name beside the program, and lets the program find its weights in it."""

    def wants(self, path: PurePosixPath, size: int) -> bool:
        """Return whether a file has weights, by its name."""
        return size >= LEAST_BYTES and path.suffix == ".safetensors"

    def settle(self, files: Sequence[FileInLayer]) -> None:
        """Let each folder's program read its weights from the layers; other weights are copied after all.

        :raises ImageInvalid: a program cannot be read
        """
        folders: dict[Path, list[FileInLayer]] = defaultdict(list)
        # Of weights that a later layer replaced with others, the last ones count.
        for file in {file.path: file for file in files}.values():
            folders[file.path.parent].append(file)
        for folder, weights in folders.items():
            program = folder / PROGRAM
            data = program.read_bytes() if program.is_file() else b""
            try:
                named = external_files(data)
                places = {each.path.name: _linked(each) for each in weights if each.path.name in named}
                found = {name: place for name, place in places.items() if place}
                changed = relocated(data, found)
            except ValueError as error:
                raise ImageInvalid(f"the model's program cannot be read: {error}", where=str(program)) from error
            if found:
                program.unlink()
                program.write_bytes(changed)
            for each in weights:
                each.path.unlink() if each.path.name in found else _copy(each)


def _linked(file: FileInLayer) -> tuple[str, int] | None:
    """Give the layer a name in the program's folder; return it, and where the weights are in it."""
    place = file.path.with_name(f"{file.path.name}.layer")
    with file.blob.open("rb") as blob:
        # Its bytes were compared with it while the image was unpacked.
        mark_digest(blob, file.blob_digest)
        return (place.name, file.offset) if share(blob, digest=file.blob_digest, to=place) else None


def _copy(file: FileInLayer) -> None:
    with file.blob.open("rb") as blob, file.path.open("wb") as target:
        blob.seek(file.offset)
        for block in blocks(blob, most=file.size):
            target.write(block)
