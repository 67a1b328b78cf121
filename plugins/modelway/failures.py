"""Why jobs fail: one kind for each cause that a user would treat differently, and what is done about it by default."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class RetryRule(StrEnum):
    """What is done when a job failed, as long as the task has attempts left."""

    RETRY = "retry"
    """the same again, from the last whole checkpoint"""
    MORE_MEMORY = "more-memory"
    """again with twice the memory"""
    FAIL = "fail"
    """the task fails at once"""


class FailureKind(StrEnum):
    """What made a job fail."""

    OUT_OF_MEMORY = "out_of_memory"
    """a process needed more than the job's memory limit"""
    NODE_OUT_OF_MEMORY = "node_out_of_memory"
    """the node ran out of memory, and the job had to make room"""
    EVICTED = "evicted"
    """the node ended the job for another reason: disk, drain, shutdown"""
    PREEMPTED = "preempted"
    """a job of higher priority, or the provider of a spot machine, took its place"""
    NODE_LOST = "node_lost"
    """the machine that the job ran on does not answer any more"""
    IMAGE_PULL = "image_pull"
    """the job's image could not be pulled"""
    UNSCHEDULABLE = "unschedulable"
    """no node could take the job in time"""
    INIT = "init"
    """what comes before the job's own code failed: volumes, init containers, requirements.txt"""
    BAD_EXIT = "bad_exit"
    """the code raised, or ended with another exit status than 0"""
    KILLED = "killed"
    """a signal ended the job, and its sender is unknown"""
    DEADLINE = "deadline"
    """the job took longer than its timeout"""
    QUOTA = "quota"
    """a quota of the namespace, project or engine is used up"""
    FORBIDDEN = "forbidden"
    """the credentials may not do what the job needs"""
    REFUSED = "refused"
    """the API refused the request as invalid"""
    UNREACHABLE = "unreachable"
    """the backend's API did not answer"""
    VANISHED = "vanished"
    """the job is gone, for an unknown reason"""

    @property
    def rule(self) -> RetryRule:
        """What is done unless the spec says otherwise."""
        return RetryRule.RETRY if self in _RETRIED else RetryRule.FAIL

    @property
    def is_of_memory(self) -> bool:
        """Whether a retry would run out of memory again: such a failure is never retried unchanged."""
        return self in (FailureKind.OUT_OF_MEMORY, FailureKind.NODE_OUT_OF_MEMORY)

    @property
    def advice(self) -> str:
        """One sentence that says what to do."""
        return _ADVICE[self]


_RETRIED = frozenset(
    {
        FailureKind.EVICTED,
        FailureKind.PREEMPTED,
        FailureKind.NODE_LOST,
        FailureKind.KILLED,
        FailureKind.QUOTA,
        FailureKind.UNREACHABLE,
        FailureKind.VANISHED,
    }
)
_ADVICE = {
    FailureKind.OUT_OF_MEMORY: "Raise resources.memory, make the batches smaller, or set retry_rules.out_of_memory "
    "to more-memory",
    FailureKind.NODE_OUT_OF_MEMORY: "Set resources.memory to what the job needs, so that it gets a node that has it, "
    "or set retry_rules.node_out_of_memory to more-memory",
    FailureKind.EVICTED: "Set resources.disk to what the job writes; nothing else if the node was drained",
    FailureKind.PREEMPTED: "Nothing, or set kubernetes.priority_class to a higher one, vertex.strategy to STANDARD",
    FailureKind.NODE_LOST: "Nothing, unless it happens again: then inspect the node",
    FailureKind.IMAGE_PULL: "Check the image's name, that it is pushed, and who may pull it "
    "(kubernetes.image_pull_secrets; on Vertex AI the project's service agent)",
    FailureKind.UNSCHEDULABLE: "Request less (resources, node_selector), add nodes, choose another vertex.region, "
    "or raise start_within",
    FailureKind.INIT: "Read the first lines of the log: a volume, a secret or a requirement is missing",
    FailureKind.BAD_EXIT: "Read the last lines of the job's log",
    FailureKind.KILLED: "Nothing, unless it happens again: then find out what ends processes on the machine",
    FailureKind.DEADLINE: "Raise the stage's timeout, or make the stage shorter; it continues from its last checkpoint",
    FailureKind.QUOTA: "Wait until others are done, request less, or have the quota raised",
    FailureKind.FORBIDDEN: "Give the service account, or the connection, the right that the message names",
    FailureKind.REFUSED: "Correct the key that the message names; modelway render shows the request",
    FailureKind.UNREACHABLE: "Check the address and the network; the job, if it runs, continues and is found again",
    FailureKind.VANISHED: "Nothing, unless it happens again: then find out who deletes jobs",
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed attempt of a job: its kind, what happened in one line, and what was done about it."""

    kind: FailureKind
    cause: str
    """one line, with the system's own message where it has one"""
    rule: RetryRule
    job: str
    """the job's name on its backend"""
    stage: str
    attempt: int
    advice: str = ""
    """what to do; empty: the kind's own"""
    last_lines: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as plain data."""
        return asdict(self) | {"last_lines": list(self.last_lines)}


def rule_for(kind: FailureKind, rules: Mapping[str, str]) -> RetryRule:
    """Return what is done about a failure by a spec's ``retry_rules``.

    Out of memory, the job's or the node's, is never retried unchanged, whatever the rules say.
    """
    rule = RetryRule(rules[kind]) if kind in rules else kind.rule
    if kind.is_of_memory and rule is RetryRule.RETRY:
        return RetryRule.FAIL
    return rule
