"""Build the image of a model version."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import member_offsets, read_manifest
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.fields.refusal import Refusal
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import platform_refusals
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import actor
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.serving import BuiltImage
from modelway.runs.messages.version import RegisteredVersion

#: members of the archive that serving needs; the others describe one run and would change the image's digest
SERVED = ("model/", "golden/", "outputs/model.yml", "outputs/graph_version.txt")


class BuildImageOperator(ModelwayOperator):
    """Put a registered version's model as one layer on a base image, without a daemon; the same model, the same digest.

    :param version: what RegisterModelOperator returned
    :param base: ``scratch``, or an image by digest
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
        options = BuildOptions(
            name=model,
            layout=settings.image_layout,
            tag=self.tag.replace("{version}", str(number)),
            repository=self.repository,
            annotations={
                "org.opencontainers.image.title": model,
                "io.modelway.model.digest": version.model_digest,
            },
            username=settings.registry_login,
            password=settings.registry_password,
            platform=self.platform or {},
        )
        with tempfile.TemporaryDirectory() as scratch:
            archive = self.artifacts.local_file(version.archive)
            archive = archive or self.artifacts.fetch(version.archive, to=Path(scratch) / "archive.zip")
            layer = model_layer(archive=archive, path=self.path)
            image = load_builder(self.builder).build(layers=[layer], base=self.base, options=options)
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


def model_layer(*, archive: Path, path: str) -> Layer:
    """Return the layer of the files that serving needs, each where it is in the archive.

    :raises DigestMismatch: it is not a whole archive
    """
    manifest, offsets = read_manifest(archive), member_offsets(archive)
    return Layer(
        files=tuple(
            LayerFile(
                path_in_image=f"{path.rstrip('/')}/{member.path}",
                source=archive,
                offset=offsets[member.path],
                size=member.size,
                digest=f"sha256:{member.sha256}",
            )
            for member in manifest.members
            if member.path.startswith(SERVED)
        )
    )
