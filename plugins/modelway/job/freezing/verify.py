"""Verify a frozen model: a fresh process without the training code and pickle, and for ONNX without torch, runs it.

Every member's digest is checked against MANIFEST.json; ONNX weights are read where they are in the archive. Then the
program must answer as the checkpoint did when it was frozen: to the golden inputs, and to the real rows that an
evaluation recorded, in batches of several sizes. A model whose requests may be joined must answer to each row alone as
it does to the same row among others.
"""

import contextlib
import hashlib
import importlib.abc
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from modelway.job.freezing.comparison import AnswersDiffer, VerificationError, compare
from modelway.job.freezing.external_data import external_files, relocated
from modelway.job.freezing.golden import SMALLER
from modelway.job.freezing.joining import Arrays, Model, can_compare, prove_rows_apart, row_count
from modelway.job.freezing.served_form import FILES, TORCH_EXPORT
from modelway.job.freezing.session import ProgramFails
from modelway.job.zip_limits import zip_problem
from modelway.job.zip_places import member_blocks, member_offset

if TYPE_CHECKING:
    from modelway.job.freezing.session import ProgramModel

FORBIDDEN_MODULES = ("torch", "tensorflow", "jax", "airflow")
FORBIDDEN_EVENTS = (
    *("pickle.find_class", "socket.connect", "subprocess.Popen"),
    *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"),
)
PROGRAM, TORCH_PROGRAM = "model/model.onnx", "model/program.json"
#: layers that torch computes in eval mode in another way than in the program that it exports
FAST_PATHS = ("TransformerEncoder", "TransformerEncoderLayer", "MultiheadAttention")
#: weights whose sums differ visibly by the order of additions
HALF = ("float16", "bfloat16")


class _Refuse(importlib.abc.MetaPathFinder):
    #: what a program of torch's own operators needs
    allowed: tuple[str, ...] = ()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if (name := fullname.partition(".")[0]) in FORBIDDEN_MODULES and name not in self.allowed:
            raise VerificationError(f"the frozen model tried to import the module {fullname}")


def verify(
    *,
    archive: Path,
    scratch: Path,
    report: Path,
    absolute: float,
    relative: float,
    metric: str | None = None,
    evaluated: Mapping[str, float | None] | None = None,
) -> None:
    """Check the archive and write the report, see ``docs/verification.md``.

    :param absolute: largest absolute difference from an answer of the checkpoint, added to
    :param relative: the largest relative one
    :param metric: the metric that the checkpoint was selected by
    :param evaluated: the metrics that ``evaluate`` returned
    :raises VerificationError: a digest, an answer, a metric or loading failed
    """
    members = unpack_checked(archive=archive, to=scratch)
    refuse = _Refuse()
    if _described(scratch).get("platform") == TORCH_EXPORT:
        from modelway.torch_program import load_libraries

        # They search for other libraries and start programs of their own while they are imported.
        load_libraries()
        refuse.allowed = ("torch",)
    sys.meta_path.insert(0, refuse)
    try:
        found = _compared(archive, scratch, {"absolute": absolute, "relative": relative}, metric, evaluated or {})
    except AnswersDiffer as error:
        raise VerificationError(f"{error}. {_advice(scratch)}") from None
    except ProgramFails as error:
        raise VerificationError(
            f"ONNX Runtime cannot run the frozen program: {error}. {_other_types(scratch)}"
        ) from error
    found = {"members": len(members), **found, "tolerance": {"absolute": absolute, "relative": relative}}
    report.write_text(json.dumps(found, allow_nan=False))
    print("verified: " + ", ".join(f"{name} {value}" for name, value in found.items()))


def unpack_checked(*, archive: Path, to: Path) -> list[str]:
    """Check each member against its digest in the manifest and unpack it into ``to``; return the members' names.

    The files of the program's weights are checked, but stay in the archive.

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
            # The program first: it says which of the others are weights.
            weights = (
                set()
                if {PROGRAM, TORCH_PROGRAM} & set(names)
                else {name for name in names if name.startswith("model/")}
            )
            for entry in sorted(manifest, key=lambda entry: entry["path"] != PROGRAM):
                _unpack_member(zipped, entry, None if entry["path"] in weights else to)
                if entry["path"] == PROGRAM:
                    weights = {f"model/{file}" for file in _places(zipped, archive)}
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise VerificationError(f"the archive is damaged: {error}") from error
    return names


def _unpack_member(zipped: zipfile.ZipFile, entry: dict[str, Any], to: Path | None) -> None:
    """Check a member, and write it below ``to`` where that is given."""
    name = PurePosixPath(entry["path"])
    if name.is_absolute() or ".." in name.parts:
        raise VerificationError(f"the member '{name}' leaves the folder")
    digest = hashlib.sha256()
    with _target(to, name) as copy:
        for block in member_blocks(zipped, entry["path"]):
            digest.update(block)
            if copy:
                copy.write(block)
    if digest.hexdigest() != entry["sha256"]:
        raise VerificationError(f"the member '{name}' has other bytes than MANIFEST.json says")


@contextlib.contextmanager
def _target(to: Path | None, name: PurePosixPath) -> Iterator[IO[bytes] | None]:
    if to is None:
        yield None
        return
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        yield file


def _places(zipped: zipfile.ZipFile, archive: Path) -> dict[str, int]:
    """Return where the files of the program's weights begin in the archive, by the names that the program has."""
    if PROGRAM not in zipped.namelist():
        return {}
    stored = {info.filename: info for info in zipped.infolist() if info.compress_type == zipfile.ZIP_STORED}
    try:
        files = external_files(zipped.read(PROGRAM))
    except ValueError as error:
        raise VerificationError(f"the member '{PROGRAM}' cannot be read: {error}") from error
    with archive.open("rb") as file:
        return {
            each: member_offset(file, stored[f"model/{each}"]) for each in sorted(files) if f"model/{each}" in stored
        }


def archived_model(archive: Path) -> "ProgramModel":
    """Return the frozen program of an archive, with its weights where they are in the archive."""
    from modelway.job.freezing.session import ProgramModel

    with zipfile.ZipFile(archive) as zipped:
        places = {name: (archive.name, begin) for name, begin in _places(zipped, archive).items()}
        program = relocated(zipped.read(PROGRAM), places)
    return ProgramModel(program, weights=archive.parent)


def torch_model(folder: Path) -> Model:
    """Return the frozen program of torch's own operators of an unpacked archive.

    :raises VerificationError: it is not whole, or names what none has to name
    """
    from modelway.job.freezing.session import usable_cores
    from modelway.torch_program import TorchProgram, UnsafeProgram

    try:
        return TorchProgram(folder / "model", threads=usable_cores())
    except UnsafeProgram as error:
        raise VerificationError(str(error)) from None


def _compared(
    archive: Path,
    folder: Path,
    tolerance: Mapping[str, float],
    metric: str | None,
    evaluated: Mapping[str, float | None],
) -> dict[str, Any]:
    """Run the frozen model on everything that the archive has answers of the checkpoint for; return the findings."""
    from safetensors import SafetensorError

    from modelway.job.freezing.frozen_rows import read_rows
    from modelway.job.freezing.golden import read_calls
    from modelway.job.freezing.verify_rows import compare_metrics, compare_rows

    try:
        calls, rows = read_calls(folder), read_rows(folder)
    except (SafetensorError, ValueError) as error:
        raise VerificationError(f"the archive's golden inputs or rows cannot be read: {error}") from error
    described = _described(folder)
    if described.get("platform") == FILES:
        return _not_run(calls)
    if not calls:
        raise VerificationError("the archive has no golden inputs")
    sys.addaudithook(_refuse_event)
    model = archived_model(archive) if described.get("platform") != TORCH_EXPORT else torch_model(folder)
    largest = max(_compare_call(model, call, *sides, tolerance) for call, sides in calls.items())
    batches, reason = _proven(model, described, [inputs for inputs, _ in calls.values()], rows, tolerance)
    found: dict[str, Any] = {"sizes": [int(call) for call in calls if call.isdigit()], "calls": len(calls)}
    found |= {"batches": batches, "batches_reason": reason, "rows": 0, "rows_of": 0, "rows_from": None, "metric": None}
    if rows is not None:
        largest = max(largest, compare_rows(model, rows, batches=batches, tolerance=tolerance))
        about = {"rows": len(next(iter(rows.inputs.values()))), "rows_of": rows.about["of"]}
        found |= about | {"rows_from": rows.about["source"]}
        found["metric"] = compare_metrics(model, rows, metric=metric, evaluated=evaluated, tolerance=tolerance)
    return found | {"max_abs_difference": largest}


def _described(folder: Path) -> dict[str, Any]:
    """Return ``outputs/model.yml`` of an unpacked archive.

    :raises VerificationError: the archive has none
    """
    try:
        found: dict[str, Any] = json.loads((folder / "outputs" / "model.yml").read_text())
        return found
    except (OSError, ValueError) as error:
        raise VerificationError(f"the archive's outputs/model.yml cannot be read: {error}") from None


def _not_run(calls: Mapping[str, Any]) -> dict[str, Any]:
    """Return the findings about files that only an image of the user's own can run."""
    reason = "the files are run by an image of your own; its answers are compared when it is deployed"
    found: dict[str, Any] = {"sizes": [], "calls": len(calls), "batches": False, "batches_reason": reason}
    return found | {"rows": 0, "rows_of": 0, "rows_from": None, "metric": None, "max_abs_difference": None}


def _advice(folder: Path) -> str:
    described = _described(folder)
    if half := [str(each["dtype"]) for each in described.get("tensors", ()) if each.get("dtype") in HALF]:
        return (
            f"The weights are {half[0]}, which rounds to three digits, here and there otherwise: allow more, such as "
            "verify.tolerance: {absolute: 0.01, relative: 0.01}, or give module.float()"
        )
    fast = [str(layer["type"]) for layer in described.get("layers", ()) if layer.get("type") in FAST_PATHS]
    if not fast:
        return "Compare the module in eval mode with the program of it that torch.onnx.export makes, on these inputs"
    return (
        f"torch may answer otherwise in eval mode than the program that it exports does: nn.{fast[0]} with a padding "
        "mask does so unless the encoder is made with enable_nested_tensor=False, or the model's Python calls "
        "torch.backends.mha.set_fastpath_enabled(False) when it is imported"
    )


def _other_types(folder: Path) -> str:
    """Return what to do about a program that ONNX Runtime does not load or run."""
    described = _described(folder)
    tensors = [str(each.get("dtype")) for each in described.get("tensors", ())]
    if "float64" in tensors or any(each.get("datatype") == "FP64" for each in described.get("inputs", ())):
        return (
            "It has not every operator for float64 on a CPU: give module.float(), or write freeze.format: torch_export"
        )
    return "Compute it otherwise, or write freeze.format: torch_export"


def _compare_call(model: Model, call: str, inputs: Arrays, expected: Arrays, tolerance: Mapping[str, float]) -> float:
    """Run golden inputs twice; return the largest difference from the checkpoint's answers."""
    where = f"golden batch {call}" if call.isdigit() else f"the golden inputs '{call}'"
    try:
        answers, again = model(inputs), model(inputs)
    except ProgramFails as error:
        if call.startswith(SMALLER):
            raise _for_one_size(call.removeprefix(SMALLER), where, error) from error
        raise
    largest = 0.0
    for name, answer in answers.items():
        if name not in expected:
            raise VerificationError(f"the archive has no answer of the checkpoint for output '{name}' at {where}")
        if compare(answer, again[name], absolute=0, relative=0).reason:
            raise VerificationError(f"output '{name}' at {where} differs between two runs")
        found = compare(answer, expected[name], **tolerance)
        if found.reason:
            raise AnswersDiffer(f"output '{name}' at {where} is not what the checkpoint answered: it {found.reason}")
        largest = max(largest, found.largest)
    return largest


def _for_one_size(size: str, where: str, error: ProgramFails) -> VerificationError:
    """Return the error for a program that runs on the examples, and not on those with another size of a dimension."""
    return VerificationError(
        f"the frozen program fails at {where}: {error}. The program that torch made works with the example's '{size}' "
        f"alone: leave '{size}' out of dynamic and pad to it, or compute it with operators that take any size"
    )


def _proven(
    model: Model, described: Mapping[str, Any], pools: Sequence[Arrays], rows: Any, tolerance: Mapping[str, float]
) -> tuple[bool, str]:
    """Return whether requests may be joined and why, as the archive says.

    :raises VerificationError: the archive says yes, and the frozen model's own answers contradict it
    """
    recorded, reason = described.get("batches"), str(described.get("batches_reason", "the archive does not say"))
    if recorded is not True:
        return False, reason
    known = [*([rows.inputs] if rows else []), *sorted(pools, key=row_count, reverse=True)]
    pool = next(filter(can_compare, known), known[0])
    apart, why = prove_rows_apart(model, pool, **tolerance)
    if not apart:
        raise VerificationError(
            f"the archive says that requests may be joined ({reason}), and the frozen model contradicts it: {why}"
        )
    return True, reason


def _refuse_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN_EVENTS:
        raise VerificationError(f"the frozen model did what it must not: {event} {arguments[:1]!r:.80}")
