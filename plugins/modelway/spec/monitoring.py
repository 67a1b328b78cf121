"""What starts a retraining besides the schedule, as the section ``monitor`` has it: events and rules for versions."""

from pydantic import Field

from modelway.fields.section import Section
from modelway.fields.values import Duration, Text


class DriftSection(Section):
    """Inputs or predictions that are distributed otherwise than on the rows of the evaluation, see monitor.md."""

    window_seconds: Duration = Field(
        default=86_400, alias="window", description="How far back requests are compared, and further for minimum_rows"
    )
    minimum_rows: int = Field(default=500, ge=50, le=10**9, description="Fewest rows that are compared")
    psi: float = Field(default=0.2, gt=0, le=10, description="Population stability index from which a feature drifts")
    ks: float = Field(default=0.15, gt=0, lt=1, description="Kolmogorov-Smirnov distance from which a number drifts")
    w: float = Field(default=0.3, gt=0, le=10, description="Cohen's w from which a category drifts")
    alpha: float = Field(
        default=1e-4, gt=0, le=0.1, description="Chance that a check finds drift where there is none, of all features"
    )
    schema_changes: bool = Field(
        default=True,
        alias="schema",
        description="Whether new categories, ranges, types or missing values start a rebuild without the base",
    )


class QualitySection(Section):
    """Fewer right predictions than on the rows of the evaluation, or a larger error, by labels that come later."""

    window_seconds: Duration = Field(
        default=7 * 86_400,
        alias="window",
        description="How old predictions are at most that are compared with their labels; longer than labels take",
    )
    minimum_labels: int = Field(default=200, ge=20, le=10**9, description="Fewest labelled predictions")
    drop: float = Field(default=0.05, gt=0, lt=1, description="By how much fewer classes must be right")
    rise: float = Field(
        default=0.2,
        gt=0,
        le=100,
        description="By which part the mean absolute error must be larger, where the answer is a number",
    )
    alpha: float = Field(default=1e-4, gt=0, le=0.1, description="Chance that a check finds a drop where there is none")


class LabelsSection(Section):
    """The data set that labels of requests come in, beside ``modelway labels add``; quality compares them."""

    dataset: Text = Field(description="Its name below datasets: CSV, JSON lines or Parquet, a file or a folder")
    key: Text = Field(default="id", description="Its column with the ids of requests")
    column: Text = Field(default="label", description="Its column with the number of the class, or the value")


class MonitorSection(Section):
    """What starts a retraining besides the schedule."""

    retrain_on_event: bool = Field(
        default=False,
        description="An event of the asset modelway://<model>/retrain starts a run and records its reason; a "
        "rule below sets it",
    )
    drift: DriftSection | None = Field(default=None, description="{} for the defaults; default: drift starts nothing")
    quality: QualitySection | None = Field(
        default=None, description="{} for the defaults; default: worse quality starts nothing"
    )
    labels: LabelsSection | None = Field(
        default=None, description="A data set of labels; default: only modelway labels add adds some"
    )
    volume: int | None = Field(
        default=None, ge=1, le=10**12, description="Rows that a version has answered, after which it is retrained"
    )
    staleness_seconds: Duration | None = Field(
        default=None, alias="staleness", description="Age of a version, after which it is retrained"
    )
    cool_down_seconds: Duration = Field(
        default=3 * 86_400, alias="cool_down", description="Least time between two retrainings that rules start"
    )
    budget_per_week: int = Field(
        default=1, ge=1, le=1000, description="Most retrainings that rules start in seven days"
    )

    @property
    def has_rules(self) -> bool:
        """Whether the monitor watches the model."""
        return any(each is not None for each in (self.drift, self.quality, self.volume, self.staleness_seconds))

    @property
    def starts_runs(self) -> bool:
        """Whether an event starts a run."""
        return self.retrain_on_event or self.has_rules
