"""The job's folder and the object that a model's functions are given.

One folder holds everything: ``job.json`` (what to do), ``code/`` (the unpacked code package), ``inputs/``,
``output/`` (what the job makes) and ``events.jsonl`` (what it reports, append-only, becomes lineage).
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint file that was written whole: its digest is checked before it is handed out again."""

    id: str
    step: int
    path: Path
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set of the model spec, its templates filled in for this run."""

    name: str
    uri: str
    digest: str | None
    """what tells its content: ``sha256:<hex>``, or what its store says; None: nothing is known"""
    version: str | None

    @property
    def path(self) -> Path:
        """The place of a data set on this machine.

        :raises ValueError: it is elsewhere: open its ``uri`` with what reads that store
        """
        parts = urlsplit(self.uri)
        if self.uri.startswith("/"):
            return Path(self.uri)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            return Path(unquote(parts.path))
        raise ValueError(f"data set '{self.name}' is not on this machine but at {self.uri}; read it by its uri")


class Job:
    """What a model's ``train(job)``, ``evaluate(job, checkpoint)`` and ``export(job, checkpoint)`` work with."""

    def __init__(self, folder: Path) -> None:
        """Open the job in ``folder``.

        :raises ValueError: ``job.json`` is of a format this code does not know
        """
        self.folder = folder
        self.spec: dict[str, Any] = json.loads((folder / "job.json").read_text())
        if (found := self.spec.get("format")) != FORMAT:
            raise ValueError(f"{folder}/job.json has format {found}, this code knows {FORMAT}")

    @classmethod
    def from_environment(cls) -> "Job":
        """Open the job that this process runs for; for programs that are started by a ``command``."""
        return cls(Path(os.environ["MODELWAY_JOB_FOLDER"]))

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.spec["model"])

    @property
    def stage(self) -> str:
        """The stage's name."""
        return str(self.spec["stage"])

    @property
    def params(self) -> dict[str, Any]:
        """The stage's parameters as the model spec gives them."""
        return dict(self.spec["params"])

    @property
    def seed(self) -> int:
        """The seed that makes the run repeatable; ``random``, numpy and torch are seeded with it already."""
        return int(self.spec["seed"])

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The data sets of the model spec by name: ``job.datasets["images"].path``."""
        return {
            name: Dataset(name=name, uri=given["uri"], digest=given.get("digest"), version=given.get("version"))
            for name, given in self.spec.get("datasets", {}).items()
        }

    @property
    def interval(self) -> tuple[datetime | None, datetime | None]:
        """Begin and end of the data that the run is about: no begin where the run has no interval of its own."""
        given = self.spec.get("interval", {})
        start, end = (datetime.fromisoformat(given[side]) if given.get(side) else None for side in ("start", "end"))
        return start, end

    @property
    def partition(self) -> str | None:
        """What the run calls its interval, such as ``2026-01-31T00:00:00``; ``None`` where it has none."""
        partition: str | None = self.spec.get("partition")
        return partition

    @property
    def code(self) -> Path:
        """The folder of the unpacked code package."""
        return self.folder / "code"

    @property
    def output(self) -> Path:
        """The folder for everything the job makes."""
        return self.folder / "output"

    @property
    def start_from(self) -> Path | None:
        """The checkpoint that the stage before ended with; ``None`` in the first stage."""
        return self.input("checkpoint")

    def input(self, name: str) -> Path | None:
        """Return an input file by its name, or ``None`` when the job has no such input."""
        place = self.spec["inputs"].get(name)
        return self.folder / place if place else None

    def resume_from(self) -> Checkpoint | None:
        """Return the last whole checkpoint of this very stage, when an earlier try was cut off; else ``None``.

        A checkpoint whose bytes are not the recorded ones is skipped with a warning.
        """
        for checkpoint in reversed(recorded_checkpoints(self.folder)):
            if problem := damage(checkpoint):
                print(f"WARNING: checkpoint {checkpoint.id} is skipped: {problem}", file=sys.stderr, flush=True)
                continue
            print(f"resuming from checkpoint {checkpoint.id} (step {checkpoint.step})", flush=True)
            return checkpoint
        return None

    def log(self, *, step: int, **metrics: float) -> None:
        """Report metrics at a step: ``job.log(step=epoch, loss=0.3)``."""
        for name, value in metrics.items():
            self.event("metric", name=name, step=step, value=json_number(value))
        print(f"step {step}: " + " ".join(f"{name}={value:.6g}" for name, value in metrics.items()), flush=True)

    @contextlib.contextmanager
    def checkpoint(self, *, step: int) -> Iterator[Path]:
        """Give a path to write a checkpoint to; afterwards it is durable and found again by a resumed try.

        ``with job.checkpoint(step=epoch) as path: torch.save(state, path)``
        """
        name = f"{self.stage}-{step:06d}"
        folder = self.output / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{name}.part"
        yield beside
        if not beside.is_file():
            raise FileNotFoundError(f"checkpoint(step={step}): no file was written to the path that it gave, {beside}")
        digest, size = sync_and_digest(beside)
        final = folder / name
        beside.replace(final)
        _sync_folder(folder)
        self.event("checkpoint", id=name, step=step, path=f"output/checkpoints/{name}", sha256=digest, size=size)

    def dataset(self, *, name: str, uri: str, digest: str | None = None, rows: int | None = None) -> None:
        """Record a data set that the job read; those of the model spec are recorded already."""
        self.event("dataset", name=name, uri=uri, digest=digest, rows=rows)

    def note(self, text: str) -> None:
        """Record a remark."""
        self.event("note", text=text)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event; lines are whole or absent, also when the process is killed while it writes."""
        append_event(self.folder, kind, **fields)


def append_event(folder: Path, kind: str, **fields: Any) -> None:
    """Append one line to ``events.jsonl`` and sync it."""
    line = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}, allow_nan=False)
    with (folder / "events.jsonl").open("ab") as file:
        # A line that a killed process left half-written must not swallow this one.
        if file.tell() and not _ends_with_newline(folder / "events.jsonl"):
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a job's folder in order; a half-written line is passed over."""
    path = folder / "events.jsonl"
    events = []
    # Not splitlines(): a text may hold other characters that end a line, such as U+2028.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and "kind" in event:
                events.append(event)
    return events


def recorded_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints that a job recorded, by step; one written again counts once, as last written."""
    last: dict[str, Checkpoint] = {}
    for event in read_events(folder):
        if event["kind"] == "checkpoint" and event.keys() >= {"id", "step", "path", "sha256", "size"}:
            last[event["id"]] = Checkpoint(
                id=event["id"],
                step=event["step"],
                path=folder / event["path"],
                digest=event["sha256"],
                size=event["size"],
            )
    return sorted(last.values(), key=lambda checkpoint: checkpoint.step)


def recorded_datasets(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the data sets among a job's events, each once: a try that goes on may have recorded it again.

    One without a name says nothing and is passed over; one without a URI is kept, its URI empty.
    """
    kept = ("name", "uri", "digest", "version", "rows")
    named = [event for event in events if event["kind"] == "dataset" and event.get("name")]
    found = [{key: event.get(key) for key in kept} | {"uri": event.get("uri") or ""} for event in named]
    return [dataset for place, dataset in enumerate(found) if dataset not in found[:place]]


def record_unreported_checkpoints(folder: Path, stage: str) -> None:
    """Record the files under ``output/checkpoints`` that a command wrote without reporting them."""
    known = {checkpoint.path for checkpoint in recorded_checkpoints(folder)}
    files = sorted(path for path in (folder / "output" / "checkpoints").glob("[!.]*") if path.is_file())
    for number, path in enumerate(files, start=1):
        if path in known:
            continue
        # The digits of a suffix such as .h5 or .pt2 are no step.
        digits = re.findall(r"\d+", re.sub(r"\.[A-Za-z]\w*$", "", path.name))
        digest, size = sync_and_digest(path)
        step = int(digits[-1]) if digits else number
        place = path.relative_to(folder).as_posix()
        append_event(folder, "checkpoint", id=f"{stage}-{path.name}", step=step, path=place, sha256=digest, size=size)


def damage(checkpoint: Checkpoint) -> str | None:
    """Return what is wrong with a checkpoint's file, or ``None`` when it is the recorded one."""
    if not checkpoint.path.is_file():
        return "the file is gone"
    size = checkpoint.path.stat().st_size
    if size != checkpoint.size:
        return f"the file has {size} bytes instead of {checkpoint.size}"
    with checkpoint.path.open("rb") as file:
        found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == checkpoint.digest else f"the bytes are {found} instead of {checkpoint.digest}"


def sync_and_digest(path: Path) -> tuple[str, int]:
    """Make a file durable and return its digest (``sha256:<hex>``) and size in bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_number(value: float) -> float | str:
    """Return a number that JSON can hold: NaN and the infinities as the text that ``float()`` reads back."""
    number = float(value)
    return number if number - number == 0 else str(number)


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics with ``None`` in place of NaN and the infinities."""
    return {name: float(value) if float(value) - float(value) == 0 else None for name, value in metrics.items()}
