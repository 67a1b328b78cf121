"""How two versions differ, by their records alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelway.lineage.compare.significance import compare_metric
from modelway.lineage.records.difference import (
    ArchitectureDifference,
    Change,
    CodeDifference,
    DatasetDifference,
    DiffRecord,
    EnvironmentDifference,
    FileDifference,
    ParamChange,
    VersionName,
)
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import DatasetRecord, FileRecord, RunRecord, StageRecord, VersionDetail


def difference(a: VersionDetail, b: VersionDetail) -> DiffRecord:
    """Return how ``b`` differs from ``a``, two versions of one model or of two."""
    metrics = sorted({*a.summary.metrics, *b.summary.metrics})
    return DiffRecord(
        a=VersionName(model=a.summary.model, number=a.summary.number),
        b=VersionName(model=b.summary.model, number=b.summary.number),
        is_same_model=a.summary.model_digest == b.summary.model_digest,
        params=_params(a.params, b.params),
        code=_code(a.run, b.run),
        data=_data(a.run.datasets, b.run.datasets),
        environment=_environments(a.run.stages, b.run.stages),
        metrics=tuple(compare_metric(name, a, b) for name in metrics),
        files=_files(a.files, b.files),
        architecture=_architecture(a, b),
        run=_run(a.run, b.run),
    )


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what was added, removed and changed from one mapping to the other, by name."""
    found = []
    for name in sorted({*a, *b}):
        if name not in a:
            found.append(Change(name=name, kind="added", b=b[name]))
        elif name not in b:
            found.append(Change(name=name, kind="removed", a=a[name]))
        # Compared as it would be written: NaN is NaN, and 1 is not True.
        elif repr(plain(a[name])) != repr(plain(b[name])):
            found.append(Change(name=name, kind="changed", a=a[name], b=b[name]))
    return tuple(found)


def _params(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> tuple[ParamChange, ...]:
    return tuple(
        ParamChange(stage=stage, **vars(change))
        for stage in sorted({*a, *b})
        for change in changes(a.get(stage, {}), b.get(stage, {}))
    )


def _code(a: RunRecord, b: RunRecord) -> CodeDifference:
    between = f"{a.commit}..{b.commit}" if a.commit and b.commit and a.commit != b.commit else None
    return CodeDifference(
        is_same=a.code_digest == b.code_digest if a.code_digest and b.code_digest else None,
        a=a.code_digest,
        b=b.code_digest,
        commits=(a.commit, b.commit),
        dirty=(a.dirty, b.dirty),
        commit_range=between,
        command=f"git log --stat {between}" if between else None,
        repository=b.repository or a.repository,
    )


def _data(a: Sequence[DatasetRecord], b: Sequence[DatasetRecord]) -> tuple[DatasetDifference, ...]:
    before, after = ({(each.name, each.stage): each for each in side} for side in (a, b))
    found = []
    for key in sorted({*before, *after}):
        name, stage = key
        if key not in after or key not in before:
            kind = "removed" if key in before else "added"
            found.append(DatasetDifference(name=name, stage=stage, kind=kind))
            continue
        one, two = before[key], after[key]
        differences = {
            "changes": changes(_facts(one), _facts(two)),
            # Where one side was not inspected, nothing is known to have changed.
            "schema": changes(one.schema, two.schema) if one.schema and two.schema else (),
            "statistics": changes(_statistics(one), _statistics(two)) if one.statistics and two.statistics else (),
        }
        if any(differences.values()):
            found.append(DatasetDifference(name=name, stage=stage, kind="changed", **differences))
    return tuple(found)


def _facts(data: DatasetRecord) -> dict[str, Any]:
    facts = {"uri": data.uri, "digest": data.digest, "version": data.version, "rows": data.rows}
    return {name: value for name, value in facts.items() if value is not None}


def _statistics(data: DatasetRecord) -> dict[str, Any]:
    statistics = data.statistics or {}
    return {f"{column}.{name}": value for column, values in statistics.items() for name, value in values.items()}


def _environments(a: Sequence[StageRecord], b: Sequence[StageRecord]) -> tuple[EnvironmentDifference, ...]:
    before, after = ({each.name: each.environment for each in side if each.environment} for side in (a, b))
    found = []
    for stage in [name for name in before if name in after]:
        one, two = before[stage], after[stage]
        if one.digest == two.digest:
            continue
        facts = [{"python": each.python, "platform": each.platform, "image": each.image or "-"} for each in (one, two)]
        packages = changes(one.packages, two.packages)
        found.append(EnvironmentDifference(stage=stage, changes=changes(*facts), packages=packages))
    return tuple(found)


def _files(a: Iterable[FileRecord], b: Iterable[FileRecord]) -> tuple[FileDifference, ...]:
    before, after = ({each.path: each.digest for each in side} for side in (a, b))
    changed = [
        FileDifference(kind="changed", path=path, a=digest, b=after[path])
        for path, digest in before.items()
        if after.get(path, digest) != digest
    ]
    gone = {path: digest for path, digest in before.items() if path not in after}
    new = {path: digest for path, digest in after.items() if path not in before}
    moved = []
    for path, digest in sorted(gone.items()):
        if to := next((each for each in sorted(new) if new[each] == digest), None):
            moved.append(FileDifference(kind="moved", path=path, new_path=to, a=digest, b=digest))
            del gone[path], new[to]
    removed = [FileDifference(kind="removed", path=path, a=digest) for path, digest in gone.items()]
    added = [FileDifference(kind="added", path=path, b=digest) for path, digest in new.items()]
    return tuple(sorted([*changed, *moved, *removed, *added], key=lambda each: each.path))


def _architecture(a: VersionDetail, b: VersionDetail) -> ArchitectureDifference:
    one, two = a.architecture, b.architecture
    parameters = (one.parameters if one else None, two.parameters if two else None)
    if one is None or two is None:
        return ArchitectureDifference(is_known=False, parameters=parameters)
    layers = ({str(each.get("name")): each.get("type") for each in side.layers} for side in (one, two))
    tensors = ({str(each.get("name")): each.get("shape") for each in side.tensors} for side in (one, two))
    return ArchitectureDifference(
        is_known=True, parameters=parameters, layers=changes(*layers), tensors=changes(*tensors)
    )


def _run(a: RunRecord, b: RunRecord) -> dict[str, tuple[Any, Any]]:
    names = ("seed", "interval_start", "interval_end", "partition", "seconds", "gpu_seconds", "inputs_digest")
    sides = {name: (getattr(a, name), getattr(b, name)) for name in names}
    return {name: (one, two) for name, (one, two) in sides.items() if one != two}
