"""``python -m modelway.job FOLDER``: do what the folder's job.json says; exit 0, or 1 with the reason in error.json.

Exit 143 when the job stopped on request. Where ``MODELWAY_TRY`` names the folder of an attempt, the reason is in its
``error-<rank>.json`` too: several processes may fail, and the first is the one to blame.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from modelway.job.agent.launch import RESERVE
from modelway.job.checkpoints import record_unreported_checkpoints
from modelway.job.contract import STOPPED_STATUS, EndedEarly, Job, Stopped
from modelway.job.early_end import recorded_end
from modelway.job.environment import environment
from modelway.job.evaluations import PREFIX, evaluate_one, evaluate_several
from modelway.job.event_limits import LONGEST_LINE
from modelway.job.events import read_events
from modelway.job.left_files import read_below, remove_below, write_below

#: colours and the like, which libraries write into messages that no terminal shows
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: what brings a package that the library's own steps need in a job
EXTRAS = dict.fromkeys(("torch", "onnx", "onnxscript", "sklearn"), "modelway[torch]")
#: where an evaluation leaves its metrics
METRICS = "output/metrics.json"
#: with less left, the next write of a log or of a reason may fail as well
ALMOST_FULL_BYTES = 64 * 1024


def main(folder: Path) -> int:
    """Run the job in ``folder``."""
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank == 0:
        (folder / "error.json").unlink(missing_ok=True)
    else:
        _prefix_output(f"[rank {rank}/{processes}] ")
    try:
        job = Job(folder)
        job.output.mkdir(exist_ok=True)
        actions = {"train": _train, "evaluate": _evaluate, "freeze": _freeze, "verify": _verify}
        actions |= {"image": _image, "accept": _accept}
        actions[job.spec["action"]](job)
    except Stopped as stopped:
        print(stopped.reason, flush=True)
        _leave_reason(folder, stopped.reason, stopped=True)
        return STOPPED_STATUS
    except EndedEarly as ended:
        print(ended.reason, flush=True)
    except BaseException as error:
        _report_error(folder, error)
        return 1
    return 0


def _record_environment(job: Job) -> None:
    """Record what the job runs in, and again only if another attempt has a different environment."""
    known = [event for event in read_events(job.folder) if event["kind"] == "environment"]
    if job.is_main and (found := environment())["digest"] != (known[-1].get("digest") if known else None):
        job.event("environment", **found)


def _train(job: Job) -> None:
    if reason := recorded_end(read_events(job.folder)):
        # The attempt before was killed between that and its end: one more step would be another result.
        raise EndedEarly(f"the training has ended early: {reason}")
    _record_environment(job)
    _record_datasets(job)
    if job.spec["command"]:
        _run_command(job)
        if job.is_main:
            record_unreported_checkpoints(job.folder, job.stage)
    else:
        _model_function(job, "train")(job)


def _record_datasets(job: Job) -> None:
    """Record the job's data sets once, however many attempts there are."""
    known = {(event.get("name"), event.get("uri")) for event in read_events(job.folder) if event["kind"] == "dataset"}
    for name, dataset in job.datasets.items():
        if (name, dataset.uri) not in known:
            job.event("dataset", name=name, uri=dataset.uri, digest=dataset.digest, version=dataset.version, rows=None)


def _evaluate(job: Job) -> None:
    """Evaluate the input ``checkpoint``, or all of ``checkpoint.0001.…`` and so on (see ``evaluations``)."""
    load = partial(_evaluation, job)
    if several := sorted(name for name in job.spec["inputs"] if name.startswith(PREFIX)):
        evaluate_several(job, names=several, load=load, reason=partial(_reason, job.folder))
        return
    metrics = evaluate_one(job.folder, "checkpoint", load)
    print("metrics: " + json.dumps(metrics), flush=True)
    if job.is_main:
        write_below(job.folder, METRICS, json.dumps(metrics).encode())


def _evaluation(job: Job, checkpoint: Path) -> Callable[[], Any]:
    """Return what evaluates a checkpoint, with its code imported and every random source seeded."""
    job.evaluating = checkpoint.name
    if job.spec["command"]:
        return partial(_evaluate_by_command, job, checkpoint)
    return partial(_model_function(job, "evaluate"), job, job.input_checkpoint(checkpoint.name))


def _evaluate_by_command(job: Job, checkpoint: Path) -> Any:
    remove_below(job.folder, METRICS)
    _run_command(job, checkpoint=checkpoint)
    try:
        # As much as an event may have: the metrics become one.
        return json.loads(read_below(job.folder, METRICS, most=LONGEST_LINE))
    except FileNotFoundError:
        raise FileNotFoundError(f'the evaluate command wrote no {METRICS}, such as {{"loss": 0.1}}') from None
    except OSError as error:
        raise ValueError(f"the evaluate command's {METRICS} cannot be read: {error.strerror}") from None


def _freeze(job: Job) -> None:
    from modelway.job.freezing.exported import Exported
    from modelway.job.freezing.freeze import freeze
    from modelway.job.freezing.left_export import FOLDER, exported_by_command
    from modelway.job.freezing.real_rows import real_rows

    _record_environment(job)
    format = job.spec.get("freeze_format", "onnx")
    if job.spec["command"]:
        _run_command(job)
        exported = exported_by_command(job.output / FOLDER, format=format)
    else:
        exported = Exported.of(_model_function(job, "export")(job, job.input_checkpoint("checkpoint")))
    rows = real_rows(job, exported)
    venvs = Path(place) if (place := os.environ.get("MODELWAY_VENVS")) else job.output.parent / "venvs"
    freeze(
        exported=exported,
        name=job.model,
        seed=job.seed,
        folder=job.output / "archive",
        rows=rows,
        format=format,
        venvs=venvs,
    )


def _verify(job: Job) -> None:
    from modelway.job.freezing.verify import verify

    archive = job.input("archive")
    if archive is None:
        raise ValueError("the verify job has no archive")
    verify(archive=archive, scratch=job.folder / "unpacked", report=job.output / "verify.json", **job.params)


def _image(job: Job) -> None:
    # The runner of this action has the builders, and they have what jobs stand without.
    from modelway.runs.image_job import build_ordered

    build_ordered(job.params, archive=job.input("archive"), folder=job.folder)


def _accept(job: Job) -> None:
    from modelway.job.acceptance import ServedVersion, environment_of, record_acceptance

    served = ServedVersion(job)
    if job.spec["command"]:
        _run_command(job, more=environment_of(served))
        metrics = None
    else:
        metrics = _model_function(job, "accept")(job, served)
    record_acceptance(job, metrics)


def _model_function(job: Job, name: str) -> Any:
    """Import the model's Python and return its function ``name``, with every random source seeded."""
    random.seed(job.seed)
    module = _import_model(job)
    _seed_libraries(job.seed)
    try:
        return getattr(module, name)
    except AttributeError:
        raise AttributeError(f"{job.spec['module']} defines no function {name}") from None


def _import_model(job: Job) -> ModuleType:
    if str(job.code) not in sys.path:
        sys.path.insert(0, str(job.code))
    os.chdir(job.code)
    module = importlib.import_module(Path(job.spec["module"]).stem)
    if module.__file__ is None or not Path(module.__file__).is_relative_to(job.code):
        raise ImportError(f"{job.spec['module']} has the name of another module; give the file another name")
    return module


def _seed_libraries(seed: int) -> None:
    """Seed numpy and torch when the model uses them; importing them here would cost seconds for nothing."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def _run_command(job: Job, *, checkpoint: Path | None = None, more: Mapping[str, str] | None = None) -> None:
    """Run the stage's command in the code folder; environment variables say where everything is."""
    checkpoint = checkpoint or job.input("checkpoint")
    resumed = job.resume_from() if job.spec["action"] == "train" else None
    environment = {
        # A script of the model imports the files beside it.
        **{name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        # The `python` of a command is this one, which has the model's requirements.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "MODELWAY_JOB_FOLDER": str(job.folder),
        "MODELWAY_OUTPUT": str(job.output),
        "MODELWAY_PARAMS": json.dumps(job.params),
        "MODELWAY_SEED": str(job.seed),
        "MODELWAY_DATASETS": json.dumps(job.spec.get("datasets", {})),
        "MODELWAY_INTERVAL_START": job.spec.get("interval", {}).get("start") or "",
        "MODELWAY_INTERVAL_END": job.spec.get("interval", {}).get("end") or "",
        "MODELWAY_PARTITION": job.partition or "",
        "MODELWAY_CHECKPOINT": str(checkpoint or ""),
        "MODELWAY_INPUT": job.evaluating or "",
        "MODELWAY_RESUME_FROM": str(resumed.path if resumed else ""),
        **(more or {}),
    }
    done = subprocess.run(job.spec["command"], cwd=job.code, env=environment)
    if job.stopping and done.returncode == STOPPED_STATUS:
        raise Stopped("the job was requested to stop, and its command did")
    if done.returncode < 0:
        _end_like(done.returncode)
    if done.returncode:
        raise RuntimeError(f"the command {job.spec['command']} ended with exit status {done.returncode}")


def _end_like(returncode: int) -> None:
    """End by the signal that ended the command, so that the job counts as killed, not as failed."""
    print(f"the command was killed by signal {-returncode}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        signal.signal(-returncode, signal.SIG_DFL)
    os.kill(os.getpid(), -returncode)


def _report_error(folder: Path, error: BaseException) -> None:
    """Print the traceback for the log and record the reason in one line."""
    # On a full device the log cannot be written either.
    with contextlib.suppress(OSError):
        traceback.print_exception(type(error), error, _from_own_code(error, folder / "code"))
        sys.stderr.flush()
    _leave_reason(folder, _reason(folder, error), stopped=False, retryable=getattr(error, "retryable", None) is True)


def _from_own_code(error: BaseException, code: Path) -> TracebackType | None:
    """Return the traceback starting at the model's own code; the whole one if that is not in it."""
    part = error.__traceback__
    while part and not Path(part.tb_frame.f_code.co_filename).is_relative_to(code):
        part = part.tb_next
    return part or error.__traceback__


def _reason(folder: Path, error: BaseException) -> str:
    """Describe an error in one line: its type, its message, and where in the model's own code it arose."""
    where, code = "", folder / "code"
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_relative_to(code):
            where = f" ({Path(frame.filename).relative_to(code)}:{frame.lineno} in {frame.name})"
    text = _TERMINAL_CODES.sub("", str(error)).strip().splitlines()
    message = f"{type(error).__name__}: {text[0] if text else 'no message'}{where}"[:800]
    return f"{message}{_advice(error, folder)}"


def _advice(error: BaseException, folder: Path) -> str:
    """Return what to do about a missing package of ours, or missing space, to end a reason with; else no text."""
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get(str(error.name).partition(".")[0])):
        return f"; install {extra} where this job runs"
    # Libraries that write in C++ do not say why a write failed.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or shutil.disk_usage(folder).free < ALMOST_FULL_BYTES:
        return f"; no space left on the device of {folder}: free some, or set MODELWAY_HOME to another one"
    return ""


def _leave_reason(folder: Path, reason: str, *, stopped: bool, retryable: bool = False) -> None:
    worth = {"retryable": True} if retryable else {}
    text = json.dumps({"reason": reason, "stopped": stopped, "at": time.time(), **worth})
    for reserve in folder.glob(f"try-*/{RESERVE}"):
        reserve.unlink(missing_ok=True)
    # Of several processes the first to fail is to blame: the others lose their connection to it.
    if os.environ.get("WORLD_SIZE", "1") == "1" or not (folder / "error.json").exists():
        (folder / "error.json").write_text(text)
    if attempt := os.environ.get("MODELWAY_TRY"):
        (Path(attempt) / f"error-{os.environ.get('RANK', '0')}.json").write_text(text)


def _prefix_output(prefix: str) -> None:
    """Begin every line that Python prints with the rank of its process."""
    sys.stdout = _Prefixed(sys.stdout, prefix)
    sys.stderr = _Prefixed(sys.stderr, prefix)


class _Prefixed:
    """A text stream that passes on whole lines, each with a prefix."""

    def __init__(self, stream: Any, prefix: str) -> None:
        self._stream, self._prefix, self._half = stream, prefix, ""

    def write(self, text: str) -> int:
        *lines, self._half = (self._half + text).split("\n")
        if lines:
            # One write, so that processes do not mix within a line.
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    # A hard exit: threads and exit handlers of a model's libraries must not delay or change the outcome.
    status = main(Path(sys.argv[1]).absolute())
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
