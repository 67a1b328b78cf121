"""Build the image of a model version."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.builders.base import BuildOptions
from modelway.fields.refusal import Refusal
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import platform_refusals
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import actor
from modelway.runs.image_contents import build_version_image
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.serving import BuiltImage
from modelway.runs.messages.version import RegisteredVersion


class BuildImageOperator(ModelwayOperator):
    """Put a registered version's model on a base image, a layer for each file of weights; the same each time.

    The files go from the archive to the registry without a daemon and without a copy on the way.

    :param version: what RegisterModelOperator returned
    :param base: ``scratch``, ``server`` for the deployment's image of the model server, or an image by digest
    :param repository: where to push, such as ``registry.example.com/models/digits``; None keeps it on this machine
    :param path: the model's folder in the image
    :param builder: how the image is built
    :param tag: the image's tag; ``{version}`` stands for the version's number
    :param platform: what only the builder knows, as the spec's section ``image.<builder>`` has it

    Returns ``{model, version, digest, reference, tag, size}``.
    """

    template_fields: Sequence[str] = ("version", "base", "repository", "path", "builder", "tag", "platform")
    accepts: ClassVar[Checks] = {
        "version": checks.VERSION,
        "base": checks.BASE_IMAGE,
        "repository": checks.REPOSITORY,
        "path": checks.IMAGE_PATH,
        "builder": checks.BUILDER,
        "tag": checks.TAG,
        "platform": checks.PLATFORM,
    }

    def __init__(
        self,
        *,
        version: Any,
        base: str = "scratch",
        repository: str | None = None,
        path: str = "/models",
        builder: str = "oci",
        tag: str = "v{version}",
        platform: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.base = base
        self.repository = repository
        self.path = path
        self.builder = builder
        self.tag = tag
        self.platform = platform
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return settings that the builder's section does not accept."""
        return platform_refusals("builders", name=self.builder, value=self.platform)

    def run(self, context: Context) -> Xcom:
        """Build the image, push it where there is a repository, and record it."""
        from modelway.hooks.lineage import lineage_from_airflow

        settings, version = self.settings, RegisteredVersion.from_xcom(self.version)
        model, number = version.model, version.version
        username, password = settings.login_for(self.repository or "")
        if self.repository and settings.registry_login and not username:
            self.log.warning(
                "The connection modelway_registry is for %s: Docker's own login is used for %s.",
                settings.registry_host,
                self.repository,
            )
        options = BuildOptions(
            name=model,
            layout=None if self.repository else settings.image_layout,
            tag=self.tag.replace("{version}", str(number)),
            repository=self.repository,
            username=username,
            password=password,
            known_layers=settings.known_layers,
            signing_key=settings.signing_key,
            platform=self.platform or {},
        )
        image = build_version_image(
            version,
            archive=self.artifacts.readable_file(version.archive),
            store=self.artifacts,
            base=settings.base_image(self.base),
            path=self.path,
            builder=self.builder,
            options=options,
        )
        self.log.info("image %s as %s", image.digest, image.reference)
        lineage_from_airflow(settings.lineage_url).record_image(
            model=model,
            version=number,
            builder=self.builder,
            digest=image.digest,
            reference=image.reference,
            actor=actor(context),
        )
        return BuiltImage(
            model=model,
            version=number,
            digest=image.digest,
            reference=image.reference,
            tag=image.tag,
            size=image.size,
        ).to_xcom()
