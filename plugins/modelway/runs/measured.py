"""What evaluations found, read from the messages of their tasks and from the artifact store."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import VerificationFailed
from modelway.job.row_metrics import read_row_metrics
from modelway.runs.comparison import Measured, OtherVersion
from modelway.runs.messages.evaluation import EvaluatedVersion

Metrics = Mapping[str, float | None]


def read_measured(store: ArtifactStore, metrics: Metrics, stored: Artifact | None) -> Measured:
    """Return the metrics of an evaluation, with what each row contributes to them.

    :raises VerificationFailed: the stored file is damaged
    """
    if stored is None:
        return Measured(metrics=metrics)
    with tempfile.TemporaryDirectory() as scratch:
        path = store.fetch(stored, to=Path(scratch) / "row-metrics")
        try:
            return Measured(metrics=metrics, sets=read_row_metrics(path))
        except ValueError as error:
            raise VerificationFailed(str(error), where=stored.uri, do="Evaluate again") from None


def read_other(evaluated: EvaluatedVersion, *, read: Callable[[Metrics, Artifact | None], Measured]) -> OtherVersion:
    """Return a version to compare with, as its evaluation on this run's data found it.

    :raises VerificationFailed: its evaluation failed
    """
    if evaluated.version is None:
        return OtherVersion(reference=evaluated.reference, reason=evaluated.reason)
    if evaluated.evaluation is None:
        what = f"version {evaluated.version} ({evaluated.reference}) has no evaluation on this run's data"
        raise VerificationFailed(f"{what}: {evaluated.reason}", do="Clear the task that evaluates it")
    return OtherVersion(
        reference=evaluated.reference,
        version=evaluated.version,
        measured=read(evaluated.evaluation.metrics, evaluated.evaluation.row_metrics),
    )
