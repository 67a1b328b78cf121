"""Find a registered version."""

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import RegisteredVersion


class FindVersionOperator(ModelwayOperator):
    """Find a registered version of a model, to build, deploy or promote it without training.

    :param model: the model's name
    :param version: its number, such as ``3`` or ``v3``, an alias such as ``champion``, or ``latest``

    Returns ``{model, version, archive: {uri, digest, size}, model_digest, blocked_reason, requested}``, as
    RegisterModelOperator does; the version is requested by name, so it may take over from a newer one.
    """

    template_fields: Sequence[str] = ("model", "version")
    accepts: ClassVar[Checks] = {
        "model": checks.MODEL,
        "version": checks.VERSION_REFERENCE,
    }

    def __init__(self, *, model: str, version: str = "champion", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.check_arguments()

    def run(self, context: Context) -> Xcom:
        """Find the version in the lineage."""
        from modelway.hooks.lineage import lineage_from_airflow

        store = lineage_from_airflow(self.settings.lineage_url)
        found = store.version(self.model, store.find(self.model, str(self.version))).summary
        self.log.info("%s '%s' is version %d", self.model, self.version, found.number)
        return RegisteredVersion.of(found, blocked_reason=None, requested=True).to_xcom()
