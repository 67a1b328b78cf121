"""What a run leaves in the artifact store besides its version: removed by the rule ``keep`` of its model spec."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from modelway.artifacts.store import ArtifactStore
from modelway.lineage.records.kept import KeepRule, Unselected
from modelway.lineage.records.retention import StoredFile
from modelway.runs.messages.evaluation import Selection

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def remove_unselected(
    store: ArtifactStore,
    lineage: "Lineage",
    *,
    version: tuple[str, int],
    selected: Selection,
    rule: KeepRule,
    actor: str,
    run_id: str,
) -> list[StoredFile]:
    """Remove the checkpoints that were not selected and do not stay by the rule; return them.

    The last checkpoint of each stage before the last one stays, of a sweep those of the selected candidate: a stage
    that is cleared starts from it. What another version or an asset has is left, and so is what another job on this
    machine uses.

    :param version: the model's name and the number of the version that the run made
    """
    model, _ = version
    needed = {selected.checkpoint.digest, *_starts(selected)}
    now = datetime.now(UTC)
    files, unselected = {}, []
    for each in selected.evaluations:
        if each.digest is None or each.digest in needed:
            continue
        if found := store.find(each.digest, model=model):
            files[found.digest] = StoredFile(
                uri=found.uri, digest=found.digest, size=found.size, is_whole=True, modified=now
            )
            unselected.append(Unselected(digest=found.digest, step=each.step or 0, size=found.size, stored=now))
    kept = rule.kept(unselected, now=now)
    superfluous = [file for digest, file in files.items() if digest not in kept]
    # Recorded first, as garbage collection does it: what disappears without a record cannot be explained.
    removed = lineage.retention.record_run_removal(
        version, superfluous, actor=actor, run_id=run_id, rule=rule.to_dict()
    )
    soon = now + timedelta(seconds=60)
    stayed = {file.uri for file in removed if not store.remove(file.uri, before=soon, unless_shared=True)}
    if stayed:
        lineage.retention.forget_removal(stayed)
    return [file for file in removed if file.uri not in stayed]


def _starts(selected: Selection) -> set[str]:
    """Return the digests of the checkpoints that later stages started from."""
    own = f"{candidate}-" if (candidate := selected.checkpoint.candidate) else ""
    last = {each.stage: each.digest for each in selected.evaluations if each.checkpoint.startswith(own)}
    return {digest for digest in list(last.values())[:-1] if digest}
