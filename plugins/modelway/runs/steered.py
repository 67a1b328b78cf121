"""What becomes of the verdict on a step that a person holds, or has ended: ``modelway.lineage.records.steering``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelway.endpoints.judge import Verdict
from modelway.lineage.records.steering import HELD, LEAVES


def as_a_person_wants(verdict: Verdict, detail: Mapping[str, Any], *, is_ready: bool) -> Verdict:
    """Return the verdict on a step as the person wants it; a version that does worse is rolled back all the same.

    :param detail: the detail of the rollout's record
    :param is_ready: whether the version is ready: one that is not gets no more traffic
    """
    if verdict.action == "rollback":
        return verdict
    if (left := detail.get(LEAVES)) is not None and is_ready:
        return replace(verdict, action="promote", reason=f"{left['by']} ended the step: {left['reason']}")
    if (held := detail.get(HELD)) is not None:
        return replace(verdict, action="hold", reason=f"held by {held['by']}: {held['reason']}")
    return verdict
