"""Verify a frozen model: a fresh process without the training code, without torch and without pickle runs it.

Every member's digest is checked against MANIFEST.json, then ONNX Runtime must reproduce the golden outputs, which
the checkpoint itself gave when it was frozen.
"""

import hashlib
import importlib.abc
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modelway.job.zip_limits import zip_problem

FORBIDDEN_MODULES = ("torch", "tensorflow", "jax", "airflow")
FORBIDDEN_EVENTS = (
    *("pickle.find_class", "socket.connect", "subprocess.Popen"),
    *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"),
)


class VerificationError(Exception):
    """The frozen model is not what it should be."""


class _Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] in FORBIDDEN_MODULES:
            raise VerificationError(f"the frozen model asked for the module {fullname}")


def verify(*, archive: Path, scratch: Path, report: Path, absolute: float, relative: float) -> None:
    """Check the archive and write the report: batches tried and the largest difference found.

    :param absolute: largest absolute difference from a golden output, added to
    :param relative: the largest relative one
    :raises VerificationError: a digest, a golden output or a load failed
    """
    sys.meta_path.insert(0, _Refuse())
    members = unpack_checked(archive=archive, to=scratch)
    differences = _run_golden(scratch, absolute, relative)
    report.write_text(
        json.dumps(
            {
                "members": len(members),
                "batches": sorted(int(size) for size in differences),
                "max_abs_difference": max(differences.values()),
                "tolerance": {"absolute": absolute, "relative": relative},
            }
        )
    )
    print(f"verified: {len(members)} members, batches {sorted(map(int, differences))}, differences {differences}")


def unpack_checked(*, archive: Path, to: Path) -> list[str]:
    """Unpack an archive into ``to``, each member against its digest in the manifest; return the members' names.

    :raises VerificationError: a member is missing, unlisted, damaged or leaves the folder
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            if problem := zip_problem(zipped):
                raise VerificationError(f"the archive is not unpacked: {problem}")
            manifest = json.loads(zipped.read("MANIFEST.json"))["files"]
            names = [name for name in zipped.namelist() if name != "MANIFEST.json"]
            if sorted(names) != sorted(entry["path"] for entry in manifest):
                raise VerificationError("the archive's members are not those of its MANIFEST.json")
            for entry in manifest:
                _unpack_member(zipped, entry, to)
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise VerificationError(f"the archive is damaged: {error}") from error
    return names


def _unpack_member(zipped: zipfile.ZipFile, entry: dict[str, Any], to: Path) -> None:
    name = PurePosixPath(entry["path"])
    if name.is_absolute() or ".." in name.parts:
        raise VerificationError(f"the member '{name}' leaves the folder")
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with zipped.open(entry["path"]) as source, target.open("wb") as copy:
        while block := source.read(1 << 20):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != entry["sha256"]:
        raise VerificationError(f"the member '{name}' has other bytes than MANIFEST.json says")


def _run_golden(folder: Path, absolute: float, relative: float) -> dict[str, float]:
    """Run every golden batch twice; return the largest absolute difference by batch size."""
    import numpy
    import onnxruntime
    from safetensors.numpy import load_file

    inputs = load_file(folder / "golden" / "inputs.safetensors")
    expected = load_file(folder / "golden" / "outputs.safetensors")
    sys.addaudithook(_refuse_event)
    session = onnxruntime.InferenceSession(folder / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    differences: dict[str, float] = {}
    for size in sorted({key.split("/", 1)[0] for key in inputs}, key=int):
        feed = {key.split("/", 1)[1]: array for key, array in inputs.items() if key.split("/", 1)[0] == size}
        answers: Sequence[Any] = session.run(names, feed)
        again: Sequence[Any] = session.run(names, feed)
        for name, answer, second in zip(names, answers, again, strict=True):
            golden = expected[f"{size}/{name}"]
            if not numpy.array_equal(answer, second, equal_nan=True):
                raise VerificationError(f"output '{name}' at batch {size} differs between two runs")
            if not numpy.isfinite(answer).all() and numpy.isfinite(golden).all():
                raise VerificationError(f"output '{name}' at batch {size} is not finite, the checkpoint's is")
            difference = float(numpy.abs(answer.astype("float64") - golden.astype("float64")).max())
            if not numpy.allclose(answer, golden, atol=absolute, rtol=relative):
                raise VerificationError(
                    f"output '{name}' at batch {size} differs from the checkpoint's by {difference:.3g}, "
                    f"allowed are {absolute:g} + {relative:g} x value"
                )
            differences[size] = max(differences.get(size, 0.0), difference)
    if not differences:
        raise VerificationError("the archive holds no golden inputs")
    return differences


def _refuse_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN_EVENTS:
        raise VerificationError(f"the frozen model did what it must not: {event} {arguments[:1]!r:.80}")
