"""``modelway backfill plan``: what a backfill would run, what it would take over, and what it may cost."""

import argparse
import json
import logging
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.cli._model_spec import model_spec
from modelway.errors import ModelwayError

if TYPE_CHECKING:
    from modelway.lineage.records.version import TrainingCost
    from modelway.lineage.store import Lineage
    from modelway.runs.interval import Interval
    from modelway.spec.model import ModelSpec

#: more intervals than anybody would read, or run
MOST = 3_000
#: what happens to an interval, in the order of the report
OUTCOMES = {"train": "to train", "reuse": "to reuse", "done": "with a run already", "fail": "that cannot run"}


def add_commands(subparsers: Any) -> None:
    """Add ``backfill plan`` to the command line."""
    parser = subparsers.add_parser("backfill", help="plan runs of past intervals")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    plan = actions.add_parser(
        "plan",
        help="show what a backfill would do",
        description="List the data intervals of a model's cron that begin within a range, both ends included, and what "
        "a backfill would do with each: train, or reuse an earlier version of the same inputs. Nothing is run.",
    )
    plan.add_argument("model", metavar="MODEL")
    plan.add_argument("--from", dest="first", required=True, metavar="DATE", help="such as 2026-01-01, in UTC")
    plan.add_argument("--to", dest="last", required=True, metavar="DATE", help="such as 2026-01-08, in UTC")
    plan.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    plan.set_defaults(run=plan_backfill)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What a backfill would do with one interval."""

    start: str
    end: str
    outcome: str
    why: str


def plan_backfill(args: argparse.Namespace) -> int:
    """Print the plan.

    :raises ModelwayError: the model is not there, or has no past intervals that could be run
    """
    first, last = _time(args.first, "--from"), _time(args.last, "--to")
    if first > last:
        raise ModelwayError(f"--from {args.first} is later than --to {args.last}", do="Swap them")
    spec = model_spec(args.model)
    intervals = _intervals(spec, first, last)
    store = _store()
    planned = list(_plan(spec, intervals, store))
    cost = store.training_cost(spec.model) if store and _is_known(store, spec.model) else None
    report = _report(spec, planned, cost, first, last)
    if args.format == "json":
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print_text(report)
    return 0


def _time(text: str, option: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, ValueError):
        raise ModelwayError(
            f"{option} '{text}' is not a date", do="Write it like 2026-01-31 or 2026-01-31T06:00+01:00"
        ) from None


def _intervals(spec: "ModelSpec", first: datetime, last: datetime) -> list["Interval"]:
    """Return the intervals that begin within the range and have ended.

    :raises ModelwayError: the model cannot be backfilled, or there is no such interval, or there are too many
    """
    from modelway.hooks.interval import intervals_between
    from modelway.runs.interval import Interval

    where = str(spec.folder / "model.yaml")
    schedule = spec.schedule
    if schedule is None or schedule.cron is None:
        raise ModelwayError(
            f"'{spec.model}' has no cron, so its runs have no intervals that could be run again",
            where=where,
            do='Give it one, such as schedule: "@daily"',
        )
    if schedule.backfill is False:
        raise ModelwayError(f"'{spec.model}' allows no backfill", where=where, do="Remove schedule.backfill: false")
    now, found = datetime.now(UTC), []
    for start, end in intervals_between(schedule.cron, schedule.timezone, first=first, last=last):
        if end >= now:
            break
        found.append(Interval.of(start, end))
        if len(found) > MOST:
            raise ModelwayError(f"there are more than {MOST:,} intervals", do="Choose a shorter range")
    if not found:
        raise ModelwayError(
            f"no interval of '{schedule.cron}' ({schedule.timezone}) starts within "
            f"{first:%Y-%m-%d %H:%M}Z and {last:%Y-%m-%d %H:%M}Z and has ended",
            do="Choose another range",
        )
    return found


def _store() -> "Lineage | None":
    from modelway.cli._lineage import lineage_if_any

    return lineage_if_any()


def _is_known(store: "Lineage", model: str) -> bool:
    return any(known.name == model for known in store.models())


def _plan(spec: "ModelSpec", intervals: Sequence["Interval"], store: "Lineage | None") -> Iterator[PlannedRun]:
    """Yield what happens to each interval, in order: a later one may reuse the version of an earlier one."""
    inputs = _Inputs(spec, store)
    done = store.versions_of_schedule(spec.model) if store else {}
    made: dict[str, str] = {}
    for interval in intervals:
        assert interval.start is not None  # a cron's intervals have both ends
        times = {"start": interval.start.isoformat(), "end": interval.end.isoformat()}
        if (number := done.get(interval.start)) is not None:
            yield PlannedRun(**times, outcome="done", why=f"version {number}; runs again with --reprocess-behavior")
            continue
        try:
            digest = inputs.digest(interval)
        except ModelwayError as error:
            yield PlannedRun(**times, outcome="fail", why=str(error))
            continue
        if digest and (number := inputs.version(digest)):
            yield PlannedRun(**times, outcome="reuse", why=f"version {number} has the same inputs")
        elif digest and digest in made:
            yield PlannedRun(**times, outcome="reuse", why=f"the version of {made[digest]}, when that run has ended")
        else:
            yield PlannedRun(**times, outcome="train", why=inputs.unknown(digest))
            inputs.trained()
            if digest:
                made[digest] = times["start"]


class _Inputs:
    """The inputs of the runs: the code and the data as they are now, the parameters' defaults."""

    def __init__(self, spec: "ModelSpec", store: "Lineage | None") -> None:
        self._spec, self._store = spec, store
        self._reuses = spec.reuse == "same-inputs"
        self._known: dict[str, Any] = {}
        self._moved = False
        if self._reuses:
            self._code_digest = _code_digest(spec.folder)
            self._base = self._base_digest(spec)

    def digest(self, interval: "Interval") -> str | None:
        """Return the digest of an interval's inputs, None where nothing is reused or it is unknown.

        :raises ModelwayError: a data set is not there, or not the pinned one
        """
        from modelway.runs.inputs import declared_params, inputs_digest, read_datasets, rendered_datasets

        params = declared_params(self._spec, {})
        rendered = rendered_datasets(self._spec, interval=interval, params=params)
        if not self._reuses:
            return None
        datasets = []
        for name, about in rendered.items():
            key = json.dumps([name, about])
            if key not in self._known:
                self._known[key] = read_datasets({name: about})
            datasets += self._known[key]
        if self._moved:
            return None
        return inputs_digest(
            spec=self._spec,
            code_digest=self._code_digest,
            module=self._spec.code,
            datasets=datasets,
            interval=interval,
            params=params,
            seed=self._spec.train.seed,
            base=self._base,
        )

    def version(self, digest: str) -> int | None:
        """Return the version of these inputs."""
        if self._store is None:
            return None
        return self._store.version_of_inputs(self._spec.model, digest, dag_id="", run_id="")

    def unknown(self, digest: str | None) -> str:
        """Return why nothing is known of a version of the same inputs, an empty text where that is known."""
        if not self._reuses or digest is not None:
            return ""
        return "starts from the version before it" if self._moved else "a data set has neither digest nor version"

    def trained(self) -> None:
        """Record that a run makes a version: later runs start from it if the spec says ``latest``."""
        self._moved = self._spec.train.base == "latest"

    def _base_digest(self, spec: "ModelSpec") -> str | None:
        from modelway.hooks.settings import load_settings
        from modelway.runs.versions import KnownVersions

        if self._store is None:
            return None
        known = KnownVersions(self._store, load_settings(), model=spec.model, dag_id="", run_id="")
        base = known.base("", spec.train.base, warn=logging.getLogger(__name__).warning)
        return base.checkpoint.digest if base else None


def _code_digest(folder: Path) -> str:
    from modelway.artifacts.code_package import write_code_package
    from modelway.artifacts.store import file_digest

    with tempfile.TemporaryDirectory() as scratch:
        write_code_package(folder=folder, to=Path(scratch) / "code.zip")
        return file_digest(Path(scratch) / "code.zip")


def _report(
    spec: "ModelSpec", planned: Sequence[PlannedRun], cost: "TrainingCost | None", first: datetime, last: datetime
) -> dict[str, Any]:
    """Return the plan as plain data."""
    counts = Counter(run.outcome for run in planned)
    command = ["airflow", "backfill", "create", "--dag-id", spec.model]
    command += ["--from-date", first.isoformat(), "--to-date", last.isoformat()]
    expected = None
    if cost:
        trained = counts["train"]
        hours = round(trained * cost.gpu_seconds / 3600, 3)
        expected = {"seconds": round(trained * cost.seconds, 1), "gpu_hours": hours, "from_runs": cost.runs}
    assert spec.schedule is not None
    return {
        "model": spec.model,
        "cron": spec.schedule.cron,
        "timezone": spec.schedule.timezone,
        "reuse": spec.reuse,
        "intervals": [asdict(run) for run in planned],
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
        "expected_training": expected,
        "command": command,
        "command_that_moves_traffic": [*command, "--dag-run-conf", '{"rollout": "yes"}'],
    }


def _print_text(report: Mapping[str, Any]) -> None:
    print(f"{report['model']}: intervals of '{report['cron']}' ({report['timezone']})\n")
    for run in report["intervals"]:
        print(f"{run['start'][:16]}Z to {run['end'][:16]}Z  {run['outcome']:<5}  {run['why']}".rstrip())
    counts = [f"{count:,} {OUTCOMES[outcome]}" for outcome, count in report["counts"].items() if count]
    total = len(report["intervals"])
    print(f"\n{total:,} interval{'' if total == 1 else 's'}: {', '.join(counts)}")
    if expected := report["expected_training"]:
        seconds = _duration(expected["seconds"])
        of = f"by the mean of the {expected['from_runs']} newest runs" if expected["from_runs"] > 1 else "by one run"
        print(f"Expected training: {seconds}, {expected['gpu_hours']:g} GPU-hours, {of}")
    else:
        print("Expected training: unknown, no run has recorded the cost of training yet")
    print("An interval of which Airflow has a run already is passed over, unless --reprocess-behavior says otherwise.")
    print(f"\nStart it with\n  {shlex.join(report['command'])}")
    print("It registers versions and moves neither alias nor traffic. To let each version take over in turn, use")
    print(f"  {shlex.join(report['command_that_moves_traffic'])}")


def _duration(seconds: float) -> str:
    """Write a duration in its largest unit."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
