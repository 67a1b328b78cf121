"""What Google's APIs refuse, as our errors: each says what to do."""

import re
from collections.abc import Mapping
from typing import Any

from modelway.errors import ModelwayError

NOT_FOUND, CONFLICT = 404, 409
#: canonical code of google.rpc → its HTTP status, for errors of operations and jobs, which have the number alone
CODES = {
    1: ("CANCELLED", 499),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    6: ("ALREADY_EXISTS", 409),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 501),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
_NAMES = {status: name for name, status in reversed(CODES.values())}
#: what passes by itself
_PASSING = (408, 429, 500, 502, 503, 504)
_LONGEST = 600
_NO_MACHINES = re.compile(r"temporarily unavailable|insufficient|capacity|stock.?out", re.I)


class GoogleError(ModelwayError):
    """A call that one of Google's APIs refused or did not answer."""

    def __init__(
        self, what: str, *, status: int = 0, code: str = "", reason: str = "", retryable: bool = False, **more: Any
    ) -> None:
        """Compose the message.

        :param status: of HTTP; 0 where there was no answer
        :param code: the canonical one, such as ``FAILED_PRECONDITION``
        :param reason: of the error's details, such as ``SERVICE_DISABLED``; empty where it has none
        :param more: see ``ModelwayError``
        """
        super().__init__(what, **more)
        self.status, self.code, self.reason, self.retryable = status, code, reason, retryable
        self.pause_seconds = 0.0
        """How long the API wants callers to wait."""

    @property
    def is_absent(self) -> bool:
        """Whether what was called does not exist."""
        return self.status == NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """Whether it exists already (code ALREADY_EXISTS), or somebody changed it meanwhile (ABORTED)."""
        return self.status == CONFLICT

    @property
    def is_unavailable(self) -> bool:
        """Whether the API does not answer now, so that nothing is known about what was called."""
        return self.retryable or self.status in (0, 401)


class LostAnswer(GoogleError):
    """A call that changes something and was not answered: it may have happened. Check that before another call."""

    def __init__(self, what: str, **more: Any) -> None:
        """Compose the message; see ``GoogleError``."""
        super().__init__(what, **{"retryable": True, **more})


class CredentialsRefused(GoogleError):
    """Credentials that are missing, expired, revoked or not accepted."""


def error_of_answer(status: int, document: Any, *, call: str, project: str, where: str) -> GoogleError:
    """Return the error of an answer that is no success.

    :param document: what was answered, as far as it is JSON
    :param call: what was called, such as ``POST aiplatform projects/p/locations/r/customJobs``
    :param where: what the credentials are of
    """
    body = document.get("error") if isinstance(document, Mapping) else None
    body = body if isinstance(body, Mapping) else {}
    code = str(body.get("status") or _NAMES.get(status) or status)
    message = one_line(str(body.get("message") or f"HTTP {status} without a message"))
    info = _info(body)
    reason = str(info.get("reason") or _first_reason(body))
    is_quota = status == 429 and not is_rate_limit(message, reason)
    kind = CredentialsRefused if status == 401 else GoogleError
    return kind(
        f"{call} was refused: {code}{f' ({reason})' if reason else ''}: {message.rstrip('.')}",
        status=status,
        code=code,
        reason=reason,
        retryable=status in _PASSING and not is_quota,
        do=_advice(status, reason, message, service=_service(info, message), project=project, where=where),
    )


def error_of_status(status: Any, *, call: str, project: str = "", where: str = "") -> GoogleError:
    """Return the error of a failed operation or job, which has the number of the canonical code and a message."""
    document = status if isinstance(status, Mapping) else {}
    name, http = CODES.get(document.get("code", 2), ("UNKNOWN", 500))
    body = {**document, "status": name}
    return error_of_answer(http, {"error": body}, call=call, project=project, where=where)


def one_line(text: str) -> str:
    """Return a message of a server as one line of bearable length."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _LONGEST else f"{joined[:_LONGEST]} …"


def is_rate_limit(message: str, reason: str) -> bool:
    """Return whether a 429 is of too many requests a minute, which passes, and not of a quota of machines."""
    return reason in ("RATE_LIMIT_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded") or bool(
        re.search(r"per (minute|second|100 seconds)|rate.?limit|requests? per|too many requests", message, re.I)
    )


def _info(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the google.rpc.ErrorInfo of an error."""
    details = body.get("details")
    found = (each for each in (details if isinstance(details, list) else ()) if isinstance(each, Mapping))
    return next((each for each in found if str(each.get("@type", "")).endswith("google.rpc.ErrorInfo")), {})


def _first_reason(body: Mapping[str, Any]) -> str:
    """Return the reason as Cloud Storage has it."""
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    return str(first.get("reason") or "") if isinstance(first, Mapping) else ""


def _service(info: Mapping[str, Any], message: str) -> str:
    metadata = info.get("metadata")
    named = str(metadata.get("service") or "") if isinstance(metadata, Mapping) else ""
    found = re.search(r"\b[a-z]+\.googleapis\.com\b", message)
    return named or (found[0] if found else "")


def _advice(status: int, reason: str, message: str, *, service: str, project: str, where: str) -> str | None:
    of_project = f" of project {project}" if project else ""
    if status == 401:
        return f"Renew the credentials{f' of {where}' if where else ''}; what runs continues meanwhile"
    if reason == "SERVICE_DISABLED" or (status == 403 and "has not been used in project" in message):
        return (
            f"Enable {service or 'the API'} in the project{f' {project}' if project else ''} (APIs & Services → "
            "Library), wait some minutes and try again; modelway doctor google lists all that are missing"
        )
    if status == 403 and ("billing" in reason.lower() or "billing" in message.lower()):
        return f"Link a billing account to the project{f' {project}' if project else ''}"
    if status == 403:
        # An operation was allowed to begin: it is an agent of Google's, or the account that servers run as.
        account = f"the account of {where}" if where else "the account that it names, else to the service agent"
        return f"Grant the permission that the message names to {account}; docs/google.md lists the roles"
    if status == 429 and is_rate_limit(message, reason):
        return "Try again in a minute"
    if status == 429 and _NO_MACHINES.search(message) and "quota" not in message.lower():
        return "Choose another machine type or region, or try again later: there are no such machines now"
    if status == 429:
        return f"Wait until others are done, request less, or have the quota{of_project} raised (IAM → Quotas)"
    if status == NOT_FOUND:
        return "Check project, region and name"
    if status in _PASSING:
        return "Try again; https://status.cloud.google.com says whether the service is impaired"
    return None
