"""The job's folder and the object that a model's functions receive.

One folder holds everything: ``job.json`` (what to do), ``code/`` (the unpacked code package), ``inputs/``,
``output/`` (what the job makes) and ``events.jsonl`` (what it reports, append-only, becomes lineage).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelway.job import checkpoints
from modelway.job.checkpoints import (
    Checkpoint,
    Retention,
    damage,
    record_unreported_checkpoints,
    recorded_checkpoints,
    seconds_of,
    sync_and_digest,
    sync_folder,
)
from modelway.job.early_end import STOPPED_EARLY, early_end
from modelway.job.events import (
    append_event,
    checked_name,
    finite_metrics,
    json_number,
    listed,
    plain,
    read_events,
    recorded_datasets,
)
from modelway.job.progress import Progress

if TYPE_CHECKING:
    from modelway.job.row_metrics import RowMetrics

__all__ = [
    "Checkpoint",
    "Dataset",
    "EndedEarly",
    "Job",
    "Stopped",
    "append_event",
    "damage",
    "finite_metrics",
    "json_number",
    "read_events",
    "record_unreported_checkpoints",
    "recorded_checkpoints",
    "recorded_datasets",
    "sync_and_digest",
]

FORMAT = 1
#: exit status of a process that stopped on request (128 + SIGTERM)
STOPPED_STATUS = 143


class Stopped(SystemExit):
    """The job was requested to stop and has written its checkpoint: the next attempt continues from it."""

    def __init__(self, reason: str) -> None:
        """End the process with the exit status of one that stopped on request."""
        super().__init__(STOPPED_STATUS)
        self.reason = reason


class EndedEarly(SystemExit):
    """The training of a candidate was not good enough to continue: the job ends here, and has succeeded."""

    def __init__(self, reason: str) -> None:
        """End the process with the exit status of one that did its work."""
        super().__init__(0)
        self.reason = reason


@dataclass(frozen=True)
class Dataset:
    """A data set of the model spec, its templates filled in for this run."""

    name: str
    uri: str
    digest: str | None
    """what identifies its content: ``sha256:<hex>``, or what its store reports; None: unknown"""
    version: str | None

    @property
    def path(self) -> Path:
        """The place of a data set on this machine.

        :raises ValueError: it is elsewhere: open its ``uri`` with a client of that store
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
        self._progress = Progress(folder)
        self._retention: Retention | None = None
        self._last: dict[str, float] = {}
        self._with_rows: set[str] = set()
        self._row_metrics: dict[str, list[RowMetrics]] = {}
        #: the input whose checkpoint is evaluated: what is reported meanwhile belongs to that one
        self.evaluating: str | None = os.environ.get("MODELWAY_INPUT") or None

    @classmethod
    def from_environment(cls) -> Job:
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
        """The stage's parameters as the model spec gives them, with those of the candidate whose checkpoint it is."""
        evaluated = self.spec.get("checkpoints", {}).get(self.evaluating or "", {})
        return {**self.spec["params"], **(evaluated.get("params") or {})}

    @property
    def seed(self) -> int:
        """The seed that makes the run repeatable; ``random``, numpy and torch are seeded with it already."""
        return int(self.spec["seed"])

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The data sets of the model spec by name: ``job.datasets["images"].path``."""
        return {
            name: Dataset(name=name, uri=entry["uri"], digest=entry.get("digest"), version=entry.get("version"))
            for name, entry in self.spec.get("datasets", {}).items()
        }

    @property
    def interval(self) -> tuple[datetime | None, datetime | None]:
        """Start and end of the data that the run is about; no start where the run has no interval of its own."""
        bounds = self.spec.get("interval", {})
        start, end = (datetime.fromisoformat(bounds[side]) if bounds.get(side) else None for side in ("start", "end"))
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
    def start_from(self) -> Checkpoint | None:
        """The checkpoint that the stage before ended with; ``None`` in the first stage."""
        return self.input_checkpoint("checkpoint")

    def input_checkpoint(self, name: str) -> Checkpoint | None:
        """Return the checkpoint of an input by the input's name, or ``None`` when the job has no such input."""
        if (path := self.input(name)) is None:
            return None
        known = self.spec.get("checkpoints", {}).get(name, {})
        return Checkpoint(
            id=known.get("id") or name.split(".", 2)[-1],
            stage=known.get("stage"),
            step=known.get("step"),
            path=path,
            digest=self.spec.get("digests", {}).get(name) or "",
            size=path.stat().st_size if path.is_file() else 0,
        )

    def input(self, name: str) -> Path | None:
        """Return an input file by its name, or ``None`` when the job has no such input."""
        place = self.spec["inputs"].get(name)
        return self.folder / place if place else None

    def resume_from(self) -> Checkpoint | None:
        """Return the last whole checkpoint of this very stage, when an earlier attempt was interrupted; else ``None``.

        A checkpoint whose bytes are not the recorded ones is skipped with a warning.
        """
        for checkpoint in reversed(recorded_checkpoints(self.folder)):
            if problem := damage(checkpoint):
                print(f"WARNING: checkpoint {checkpoint.id} is skipped: {problem}", file=sys.stderr, flush=True)
                continue
            if self.is_main:
                print(f"resuming from checkpoint {checkpoint.id} (step {checkpoint.step})", flush=True)
            return replace(checkpoint, stage=self.stage)
        return None

    @property
    def rank(self) -> int:
        """This process's number among all that train together; 0 where there is one."""
        return int(os.environ.get("RANK", "0"))

    @property
    def local_rank(self) -> int:
        """This process's number on its machine: which of the machine's GPUs it uses."""
        return int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def is_main(self) -> bool:
        """Whether this process reports: what the others log, record or save is dropped."""
        return self.rank == 0

    @property
    def stopping(self) -> bool:
        """Whether the platform has requested the job to stop; the next ``checkpoint()`` ends it after it is durable.

        Several processes may see it at different moments: none may act on it alone.
        """
        notice = os.environ.get("MODELWAY_NOTICE")
        return bool(notice) and os.path.exists(notice or "")

    def log(self, *, step: int, **metrics: float) -> None:
        """Report metrics at a step: ``job.log(step=epoch, loss=0.3)``.

        :raises ValueError: a name has more than 500 characters
        """
        for name in metrics:
            checked_name(name, what="a metric")
        for name, value in metrics.items():
            self.event("metric", name=name, step=step, value=json_number(value))
            self._last[name] = float(value)
        if self.is_main:
            print(f"step {step}: " + " ".join(f"{name}={value:.6g}" for name, value in metrics.items()), flush=True)

    def progress(
        self, *, step: int, total: int | None = None, examples: int | None = None, loss: float | None = None
    ) -> None:
        """Report how far the job is; cheap enough for every step, since it writes only every few seconds.

        :param total: the step that the job ends with
        :param examples: how many examples were worked on since the last call, by all processes together
        """
        if self.is_main:
            self._progress.update(step=step, total=total, examples=examples, loss=loss)

    def keep_checkpoints(self, *, last: int, every: str | float | None = None) -> None:
        """Keep only some of the checkpoints from now on; without this call all are kept.

        :param last: how many of the newest are kept
        :param every: of the older ones, one of each such stretch of time is kept too: ``30m``, ``2h``, or seconds
        :raises ValueError: none would be kept, or ``every`` is not a length of time
        """
        if last < 1:
            raise ValueError(f"keep_checkpoints(last={last}): at least the last one must stay")
        self._retention = Retention(last=last, every_seconds=None if every is None else seconds_of(every))

    @contextlib.contextmanager
    def checkpoint(self, *, step: int) -> Iterator[Path]:
        """Provide a path to write a checkpoint to; afterwards it is durable, and a resumed attempt finds it.

        ``with job.checkpoint(step=epoch) as path: torch.save(state, path)``

        With several processes, each may enter; what processes other than the main one write is discarded.

        :raises Stopped: the job was requested to stop; the checkpoint is durable
        :raises EndedEarly: a candidate's metric is beyond the limit of ``search.stop``; the checkpoint is durable
        """
        if not self.is_main:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch) / "checkpoint"
            return
        name = f"{self.stage}-{step:06d}"
        folder = self.output / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{name}.part"
        try:
            yield beside
        except BaseException:
            # On a full disk it would leave no space to report the error.
            beside.unlink(missing_ok=True)
            raise
        if not beside.is_file():
            raise FileNotFoundError(f"checkpoint(step={step}): no file was written to the path that it gave, {beside}")
        digest, size = sync_and_digest(beside)
        final = folder / name
        beside.replace(final)
        sync_folder(folder)
        self.event("checkpoint", id=name, step=step, path=f"output/checkpoints/{name}", sha256=digest, size=size)
        if self._retention:
            checkpoints.remove_superfluous(self.folder, self._retention)
        if reason := early_end(self.spec.get("stop"), self._last, step=step):
            self.event(STOPPED_EARLY, reason=reason, checkpoint=name)
            raise EndedEarly(f"the training ends early after checkpoint {name}: {reason}")
        if self.stopping:
            raise Stopped(f"the job was requested to stop and stopped after checkpoint {name}")

    def dataset(
        self,
        *,
        name: str,
        uri: str,
        digest: str | None = None,
        rows: int | None = None,
        columns: Mapping[str, Any] | None = None,
        schema: Mapping[str, str] | None = None,
        statistics: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Record a data set that the job read; those of the model spec are recorded already.

        :param columns: values by the columns' names, to record their types and a summary (``job.figures.statistics``)
        :param schema: the columns' types, where they are known otherwise
        :param statistics: a summary of each column, where it is known otherwise
        :raises ValueError: a name has more than 500 characters, or these are not columns
        """
        from modelway.job.figures.statistics import checked_schema, checked_statistics, summarised

        known: dict[str, Any] = {}
        checked_name(name, what="a data set")
        if columns is not None:
            known["schema"], known["statistics"] = summarised(columns)
        if schema is not None:
            known["schema"] = checked_schema(schema)
        if statistics is not None:
            known["statistics"] = checked_statistics(statistics)
        self.event("dataset", name=name, uri=uri, digest=digest, rows=rows, **known)

    def figure(self, *, name: str, kind: str, data: Mapping[str, Any]) -> None:
        """Record a chart: ``job.figure(name="rate", kind="line", data={"x": steps, "y": rates})``.

        :param kind: bars, calibration, confusion, line, matrix, pr or roc; ``job.figures.charts`` describes their data
        :raises ValueError: there is no such kind, or the data does not fit it
        """
        from modelway.job.figures.charts import checked_figure

        self._report("figure", **checked_figure(name, kind, data))

    def predictions(
        self,
        *,
        labels: Any,
        scores: Any,
        classes: Sequence[Any] | None = None,
        name: str = "",
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Record ROC, PR, confusion matrix and calibration of a classification (``modelway.job.figures.predictions``).

        Rows with a score that is not finite are left out, with a note.

        :param labels: each row's true class, its number from 0 or its name out of ``classes``
        :param scores: ``[n, k]`` probabilities or logits of k classes, or ``[n]`` of the second of two
        :param name: what the charts' names begin with, where there are several sets of predictions
        :param inputs: the model's inputs for these rows, by the names of ``forward``'s arguments; the frozen
            model must then answer to them as the checkpoint did, and its metric is computed again; for one set only
        :raises ValueError: these are not labels and scores of a classification, or there are more or fewer inputs
        """
        from modelway.job.figures.predictions import prediction_figures

        if not self.is_main:
            return
        figures, notes = prediction_figures(labels=labels, scores=scores, classes=classes, name=name)
        for called, kind, data in figures:
            self.figure(name=called, kind=kind, data=data)
        for text in notes:
            self.note(text)
        self._record_predictions(inputs, labels=labels, scores=scores, classes=classes)

    def _record_predictions(
        self, inputs: Mapping[str, Any] | None, *, labels: Any, scores: Any, classes: Sequence[Any] | None
    ) -> None:
        """Record what each row contributes to the metrics, and the rows themselves where they are there."""
        from modelway.job.figures.predictions import numbered
        from modelway.job.freezing.rows import record_rows
        from modelway.job.freezing.scores import by_row, metrics_of

        numbers, rows = numbered(labels=labels, scores=scores, classes=classes)
        if values := by_row(rows, numbers):
            # By their names, since another version may number its classes otherwise.
            called = numbers if classes is None else [str(listed(classes)[number]) for number in numbers]
            self._record_row_metrics(values, rows=called, by_definition=True)
        if inputs is None:
            return
        of = self.evaluating or "checkpoint"
        if of in self._with_rows:
            raise ValueError("job.predictions: inputs are recorded of one set of predictions, these are a second one")
        self._with_rows.add(of)
        known = metrics_of(rows, numbers)
        record_rows(self.output, of=of, inputs=inputs, labels=numbers, scores=rows, metrics=known)

    def row_metrics(self, *, values: Mapping[str, Any], rows: Any) -> None:
        """Record what each row contributes to metrics that are means, so that versions can be compared row by row.

        ``job.row_metrics(values={"loss": losses}, rows=ids)``; ``job.predictions`` does so by itself.

        :param values: by the metric's name, a number for each row; their mean is what ``evaluate`` returns
        :param rows: what each row is, an id or its true value; another version is compared on equal rows alone
        :raises ValueError: these are not finite numbers, as many as there are rows
        """
        if not values:
            raise ValueError("job.row_metrics: values must be a mapping from metrics to a number for each row")
        for name in values:
            checked_name(name, what="a metric")
        if self.is_main:
            self._record_row_metrics(values, rows=rows, by_definition=False)

    def _record_row_metrics(self, values: Mapping[str, Any], *, rows: Any, by_definition: bool) -> None:
        from modelway.job.row_metrics import RowMetrics, write_row_metrics

        if self.spec["action"] != "evaluate":
            return
        of = self.evaluating or "checkpoint"
        try:
            made = RowMetrics.of_rows(values, rows=rows, by_definition=by_definition)
        except (TypeError, ValueError) as error:
            raise ValueError(f"job.row_metrics: {error}") from None
        known = self._row_metrics.setdefault(of, [])
        known.append(made)
        write_row_metrics(self.output, of=of, sets=known)

    def importance(
        self,
        *,
        features: Any,
        score: Callable[[Any], Any] | None = None,
        names: Sequence[Any] | None = None,
        repeats: int = 5,
        metric: str = "loss",
    ) -> None:
        """Record by how much a loss grows when the values of one feature are shuffled (``job.figures.importance``).

        ``job.importance(features={"age": ages, "height": heights}, score=lambda features: loss_of(features))``

        :param features: columns by name, or a matrix; without ``score``, each feature's importance, ready-made
        :param score: returns the loss for features of the same form; higher is worse
        :param names: the names of a matrix's columns
        :param repeats: how often each feature is shuffled, by ``job.seed``
        :param metric: the name of what ``score`` returns
        :raises ValueError: the features have no such form, or a name has more than 500 characters
        """
        from modelway.job.figures.importance import importances

        checked_name(metric, what="a metric")
        if self.is_main:
            found = importances(features=features, score=score, names=names, repeats=repeats, seed=self.seed)
            self._report("importance", metric=metric, values=found)

    def _report(self, kind: str, **fields: Any) -> None:
        """Append an event about the checkpoint that is being evaluated, if there is one."""
        of_checkpoint = {"input": self.evaluating} if self.evaluating else {}
        self.event(kind, **of_checkpoint, **fields)

    def note(self, text: str) -> None:
        """Record a remark."""
        self._report("note", text=plain(text))

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event; lines are whole or absent, also when the process is killed while it writes."""
        if self.is_main:
            append_event(self.folder, kind, **fields)
