"""One small tree of errors: what is wrong, where, what is known, what to do, and whether a retry can help."""

import errno
from collections.abc import Iterable
from typing import Any

from modelway.failures import Failure, FailureKind, RetryRule
from modelway.names import nearest


class ModelwayError(Exception):
    """A refusal or failure that a user meets.

    ``retryable`` says whether trying the same thing again can succeed; operators turn a terminal
    error (``retryable = False``) into a task failure without further attempts.
    """

    retryable: bool = False
    failure: Failure | None = None
    """the failure of the job, where one failed"""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        known: Iterable[str] | None = None,
        given: str | None = None,
        do: str | None = None,
    ) -> None:
        """Compose the message.

        :param what: one sentence without a full stop that says what is wrong
        :param where: file, folder, URL or job that it is about
        :param known: the values that would have been right
        :param given: the value that was found, to suggest the nearest known one
        :param do: one sentence that says what to do
        """
        self.what, self.where, self.do = what, where, do
        self.known = tuple(known) if known is not None else None
        text = f"{where}: {what}." if where else f"{what}."
        if self.known is not None:
            text += f" Known: {', '.join(self.known) or 'none'}."
            if given is not None and (near := nearest(given, self.known)):
                text += f" Did you mean '{near}'?"
        if do:
            text += f" {do.rstrip('.')}."
        super().__init__(text)


class InvalidSpec(ModelwayError):
    """A model spec that cannot be used; the message lists every problem (see ``modelway.spec.load``)."""


class InvalidArgument(InvalidSpec):
    """An operator of a DAG written by hand has invalid arguments; a line for each of them."""

    def __init__(self, text: str) -> None:
        """Keep the lines as they are: each ends with its own full stop."""
        super().__init__(text)
        self.args = (text,)


class UnknownModel(ModelwayError):
    """A model that no spec declares, or that is not in the lineage."""


class UnknownVersion(ModelwayError):
    """A model version that was never registered."""


class UnknownRun(ModelwayError):
    """A run that is not in the lineage, or a name that several have."""


class UnknownAsset(ModelwayError):
    """An asset, or a version of one, that was never uploaded."""


class InvalidModelCode(ModelwayError):
    """Model code that cannot be packaged or lacks what the contract requires."""


class DigestMismatch(ModelwayError):
    """Bytes that are not the ones their digest names: truncated, changed or another file."""


class InvalidDataset(ModelwayError):
    """A data set that is not there, cannot be read, or has a URI that cannot be used."""


class DatasetUnavailable(ModelwayError):
    """A data set whose store does not answer."""

    retryable = True


class NotStored(ModelwayError):
    """A stored file that cannot be had here: gone, in a store that cannot be read, or outside of the artifact root."""


class NotWritable(ModelwayError):
    """A folder or store that cannot be written."""


class DiskFull(NotWritable):
    """A device without any space left."""


def disk_full(error: BaseException, *, folder: object = None) -> DiskFull | None:
    """Return the error of a full device where that is the cause of ``error``, else None.

    :param folder: where the device is, as far as the error does not say
    """
    where, cause = None, None
    chain: BaseException | None = error
    while chain is not None:
        where = where or getattr(chain, "where", None) or getattr(chain, "filename", None)
        is_full = isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT)
        # SQLite's own message.
        cause = chain if is_full or "database or disk is full" in str(chain) else cause
        chain = chain.__cause__ or chain.__context__
    if cause is None:
        return None
    place = None if (where or folder) is None else str(where or folder)
    return DiskFull("no space left on the device", where=place, do="Free some, or set MODELWAY_HOME to another device")


class CapabilityMissing(ModelwayError):
    """Something requested of a backend, builder or endpoint that it does not support."""


class JobFailed(ModelwayError):
    """A job that ended badly for a reason that a retry would meet again, such as training code that raises."""


class JobLost(ModelwayError):
    """A job that was killed or vanished; trying again resumes from its last checkpoint."""

    retryable = True


class SubmitFailed(ModelwayError):
    """A backend's API that refused a job, or did not answer; retryable by the kind of failure."""

    def __init__(self, what: str, *, kind: FailureKind, **more: Any) -> None:
        """Compose the message.

        :param kind: what kind of failure it is
        :param more: see ``ModelwayError``
        """
        super().__init__(what, **more)
        self.kind = kind
        self.retryable = kind.rule is not RetryRule.FAIL


class NothingToSelect(ModelwayError):
    """No checkpoint has a usable value of the selection metric."""


class VerificationFailed(ModelwayError):
    """A frozen model that does not reproduce its checkpoint, or misses a gate."""


class SignatureChanged(ModelwayError):
    """A version whose inputs or outputs would break the callers of the one that serves."""


class RegistryError(ModelwayError):
    """An OCI registry that refused or did not answer."""

    retryable = True


class RegistryRefused(RegistryError):
    """A registry's refusal that a retry would meet again: login, permission, a name or digest it does not know."""

    retryable = False


class LineageUnavailable(ModelwayError):
    """A lineage database that does not answer, or stays locked."""

    retryable = True


class SecretMissing(ModelwayError):
    """A connection, field or variable of Airflow that a job needs and that is not there."""


class ExporterUnavailable(ModelwayError):
    """A service that the lineage is exported to and that does not answer, or refuses the login; events are queued."""

    retryable = True


class ExportRefused(ModelwayError):
    """A fact of the lineage that another service refuses as it is."""


class ImageInvalid(ModelwayError):
    """An image whose bytes, manifest or layers are not what they should be."""


class UnknownEndpoint(ModelwayError):
    """An endpoint that nothing was ever deployed to."""


class PortTaken(ModelwayError):
    """A port that another program uses."""


class EndpointNotReady(ModelwayError):
    """A predictor or gateway that did not become ready in time."""

    retryable = True


class EndpointElsewhere(ModelwayError):
    """An endpoint is processes of another host than this one."""

    @classmethod
    def of(cls, endpoint: str, *, host: str, own: str) -> "EndpointElsewhere":
        """Return the error of an endpoint of the host ``host`` that was to be used on the host ``own``."""
        return cls(
            f"it serves on the host {host}, and this is {own}",
            where=f"endpoint {endpoint}",
            do=f"Let the tasks that deploy and promote run on {host} (MODELWAY_SERVING_QUEUE names the queue of its "
            f"worker), or stop the endpoint there: modelway endpoint stop {endpoint}",
        )


class RolloutAborted(ModelwayError):
    """A rollout that was stopped; traffic is back on the stable version."""


class ChangedMeanwhile(ModelwayError):
    """Something that somebody else changed since it was read: what was to be done does not fit any more."""


class RolloutChanged(ChangedMeanwhile):
    """A rollout that somebody else wrote since it was read."""

    retryable = True
