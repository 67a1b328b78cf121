"""Which files a container sees once the layers of an image lie on one another; nothing is written."""

import os.path
import tarfile
from collections.abc import Set

from modelway.oci.unpack import OPAQUE, WHITEOUT

#: links on the way to a file, as many as Linux follows
_MOST_LINKS = 40


class SeenFiles:
    """The digests of files by their absolute paths, while the layers are read in order."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._links: dict[str, str] = {}
        #: where something was added below, so that only there is looked for what a folder had
        self._folders: set[str] = set()
        self._fresh: set[str] = set()

    def begin_layer(self) -> None:
        """Let the members that follow hide those of the layers so far."""
        self._fresh = set()

    def add(self, member: tarfile.TarInfo, digest: str | None) -> None:
        """Add, replace or remove what a layer's next member does.

        :param digest: of a file's bytes
        """
        path = self._resolved(member.name)
        folder, _, name = path.rpartition("/")
        if name == OPAQUE:
            self._remove_below(folder, but=self._fresh)
            return
        if name.startswith(WHITEOUT):
            self._remove(f"{folder}/{name.removeprefix(WHITEOUT)}")
            return
        if member.isdir():
            self.files.pop(path, None)
            self._links.pop(path, None)
            return
        if member.islnk():
            digest = self.files.get(self._resolved(member.linkname))
        self._remove(path)
        if member.issym():
            self._links[path] = member.linkname
        elif digest is not None:
            self.files[path] = digest
        self._fresh.add(path)
        while folder not in self._folders:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]

    def _remove(self, path: str) -> None:
        """Remove a file or link, or all that is below a folder."""
        self.files.pop(path, None)
        self._links.pop(path, None)
        self._remove_below(path, but=frozenset())

    def _remove_below(self, folder: str, *, but: Set[str]) -> None:
        if folder not in self._folders:
            return
        for places in (self.files, self._links):
            for path in [path for path in places if path.startswith(f"{folder}/") and path not in but]:
                del places[path]

    def _resolved(self, name: str) -> str:
        """Return where a member of this name lands: links among its folders are followed within the image."""
        folder, _, name = os.path.normpath(f"/{name.lstrip('/')}").rpartition("/")
        parts, place, links = folder.split("/"), "", 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                place = place.rpartition("/")[0]
            elif part not in ("", "."):
                place = f"{place}/{part}"
                target = self._links.get(place)
                if target is not None and links < _MOST_LINKS:
                    links += 1
                    place = "" if target.startswith("/") else place.rpartition("/")[0]
                    parts = target.split("/") + parts
        return f"{place}/{name}"
