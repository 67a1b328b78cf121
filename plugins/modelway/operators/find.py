"""Find a version that is registered already."""

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator


class FindVersionOperator(ModelwayOperator):
    """Find a registered version of a model, to build, deploy or promote it without training.

    :param model: the model's name
    :param version: its number, such as ``3`` or ``v3``, an alias such as ``champion``, or ``latest``

    Returns ``{model, version, archive: {uri, digest, size}, model_digest, held, asked}``, as RegisterModelOperator
    does; the version was asked for by name, so it may take over from a newer one.
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

    def run(self, context: Context) -> dict[str, Any]:
        """Look the version up in the lineage."""
        from modelway.hooks.lineage import lineage_from_airflow

        store = lineage_from_airflow(self.settings.lineage_url)
        found = store.version(self.model, store.find(self.model, str(self.version))).summary
        self.log.info("%s '%s' is version %d", self.model, self.version, found.number)
        return version_told(found, held=None, asked=True)


def version_told(found: Any, *, held: str | None, asked: bool) -> dict[str, Any]:
    """Return a version as operators pass it on, from its ``VersionSummary``."""
    return {
        "model": found.model,
        "version": found.number,
        "archive": {"uri": found.archive_uri, "digest": found.archive_digest, "size": found.archive_size},
        "model_digest": found.model_digest,
        "held": held,
        "asked": asked,
    }
