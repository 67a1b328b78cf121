"""The code package: a model's folder as one archive, byte-identical for the same tree on every machine."""

import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

from modelway.errors import InvalidModelCode
from modelway.job.zip_limits import zip_problem

SKIPPED = re.compile(r"(^|/)(\.[^/]+|__pycache__|[^/]+\.py[co]|[^/]+\.egg-info)(/|$)|^model\.yaml$")
EPOCH = (1980, 1, 1, 0, 0, 0)


def package_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a model's folder that are packaged, sorted by name: all but hidden ones, Python's caches
    and the model spec, whose values reach the job as parameters.

    :raises InvalidModelCode: the folder is missing or empty, or holds what cannot be packaged: a link that leaves it
        or goes nowhere, a link to a folder, a pipe, something unreadable
    """
    if not folder.is_dir():
        raise InvalidModelCode("there is no such folder", where=str(folder), do="Name the folder of the model's code")
    files = []
    for base, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        here = Path(base).relative_to(folder)
        folders[:] = sorted(name for name in folders if not SKIPPED.search((here / name).as_posix()))
        links = [here / name for name in folders if (folder / here / name).is_symlink()]
        files += links + [here / name for name in names if not SKIPPED.search((here / name).as_posix())]
    if not files:
        raise InvalidModelCode(
            "the folder holds no file to package", where=str(folder), do="Put the model's code there"
        )
    for file in files:
        _check_packable(folder, file)
    return tuple(sorted(files, key=lambda file: PurePosixPath(file).as_posix()))


def _check_packable(folder: Path, file: Path) -> None:
    path, name = folder / file, file.as_posix()
    # realpath, unlike Path.resolve, puts up with a link to itself.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InvalidModelCode(f"'{name}' links out of the folder", where=str(folder), do="Copy it into the folder")
    if not path.is_file():
        # A link to a folder, a link to nothing, a pipe or a socket.
        what = "links to no file" if path.is_symlink() else "is no regular file"
        raise InvalidModelCode(f"'{name}' {what}", where=str(folder), do="Remove it, or put a file in its place")


def _refuse_unreadable(error: OSError) -> None:
    raise InvalidModelCode(
        f"the folder cannot be read ({error.strerror})", where=error.filename, do="Give the Airflow worker access to it"
    ) from error


def write_code_package(*, folder: Path, to: Path) -> None:
    """Write the code package of ``folder`` to the file ``to``.

    A ZIP without compression, names sorted, no times, modes 0644 or 0755: the same tree gives the same bytes.
    """
    files = package_files(folder)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as package:
        for file in files:
            source = folder / file
            info = zipfile.ZipInfo(PurePosixPath(file).as_posix(), date_time=EPOCH)
            info.create_system = 3
            executable = source.stat().st_mode & stat.S_IXUSR
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            package.writestr(info, source.read_bytes())


def unpack_code_package(*, package: Path, to: Path) -> None:
    """Unpack a code package into the folder ``to``.

    :raises InvalidModelCode: a member's name leaves the folder
    """
    with zipfile.ZipFile(package) as archive:
        if problem := zip_problem(archive):
            raise InvalidModelCode(f"the code package is not unpacked: {problem}", where=str(package))
        for info in archive.infolist():
            name = PurePosixPath(info.filename)
            if name.is_absolute() or ".." in name.parts:
                raise InvalidModelCode(f"the member '{info.filename}' leaves the folder", where=str(package))
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(info))
            target.chmod((info.external_attr >> 16) & 0o777 or 0o644)
