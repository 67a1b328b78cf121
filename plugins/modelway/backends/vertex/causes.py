"""Why a custom job failed, by the code and the message of its error.

Sources: Vertex AI, "Understand the custom training service" (restarts, exit codes, out of memory), "Troubleshooting
Vertex AI" (stockouts, quotas); the words of refused images and permissions are those of public issues. Messages are no
interface: what none of the patterns knows is reported as it is.
"""

import re

from modelway.failures import FailureKind

Cause = tuple[FailureKind, str]

#: what Vertex AI says of a container that ended by itself; the last lines that the container printed follow
_EXIT = re.compile(r"\bnon-zero status of (\d+)(\(\w+\))?\.?( Termination reason: \w+)?")
_OUT_OF_MEMORY = re.compile(r"ran out of memory|out of memory|OOMKilled|9\(SIGKILL\)", re.I)
#: what the platform did, whatever the agents reported
_BY_PLATFORM: tuple[tuple[re.Pattern[str], FailureKind, str], ...] = (
    (re.compile(r"preempt", re.I), FailureKind.PREEMPTED, ""),
    (
        re.compile(r"resources are insufficient|insufficient (resources|capacity)|stock.?out|out of capacity", re.I),
        FailureKind.UNSCHEDULABLE,
        "choose another vertex.region or machine, or vertex.strategy: FLEX_START, which waits for machines",
    ),
    (re.compile(r"\bquota", re.I), FailureKind.QUOTA, "wait until others are done, or have the quota raised"),
    (
        re.compile(
            r"(pull|fetch|find|access)\w* (the )?(container )?image|image .*(not found|cannot be pulled|not exist)"
            r"|ErrImagePull|ImagePullBackOff|manifest unknown",
            re.I,
        ),
        FailureKind.IMAGE_PULL,
        "check that the image is pushed, and that the project's Vertex AI service agent may read its repository",
    ),
    (
        re.compile(r"permission|PERMISSION_DENIED|does not have .*access|\bforbidden\b|actAs", re.I),
        FailureKind.FORBIDDEN,
        "give the service account that the message names the right; docs/google.md lists the roles",
    ),
)
_PERMISSION_DENIED, _INTERNAL, _UNAVAILABLE = 7, 13, 14
_DID_NOT_BEGIN = (2, 126, 127)
_TIMEOUT_STATUS = 124


def by_platform(code: int, message: str, *, ran: bool) -> Cause | None:
    """Return what the platform did to a job, by its error; None where its own processes ended it.

    :param ran: whether it had begun to run
    """
    if found := _EXIT.search(message):
        if _OUT_OF_MEMORY.search(message[: found.end()]):
            return FailureKind.OUT_OF_MEMORY, f"out of memory: {message}"
        return None
    for pattern, kind, do in _BY_PLATFORM:
        if pattern.search(message):
            if kind is FailureKind.UNSCHEDULABLE and ran:
                # A machine that is taken away is reported as one that is not there.
                kind, do = FailureKind.PREEMPTED, ""
            return kind, with_advice(message, do)
    if _OUT_OF_MEMORY.search(message):
        return FailureKind.OUT_OF_MEMORY, f"out of memory: {message}"
    if code == _PERMISSION_DENIED:
        return FailureKind.FORBIDDEN, message or "permission denied"
    return None


def by_message(code: int, message: str) -> Cause:
    """Return why a job failed whose agent could not say it."""
    if found := _EXIT.search(message):
        return _by_exit_status(int(found[1])), message
    if re.search(r"time ?d? ?out|deadline", message, re.I):
        return FailureKind.DEADLINE, message
    if code in (_INTERNAL, _UNAVAILABLE) or re.search(r"internal error", message, re.I):
        return FailureKind.NODE_LOST, message or "an internal error of Vertex AI"
    return FailureKind.VANISHED, message or "Vertex AI does not say why it failed"


def _by_exit_status(status: int) -> FailureKind:
    if status in _DID_NOT_BEGIN:
        return FailureKind.INIT
    if status == _TIMEOUT_STATUS:
        return FailureKind.DEADLINE
    return FailureKind.KILLED if status > 128 else FailureKind.BAD_EXIT


def with_advice(message: str, do: str) -> str:
    """Return one line with what happened and what to do."""
    return f"{message.rstrip('. ')}; {do}" if do else message
