"""Build the image of a model version."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.archive import Manifest, unpack_archive
from modelway.artifacts.store import Artifact
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import actor

#: the archive's members that serving needs; the rest describes one run and would change the image's digest
SERVED = ("model/", "golden/", "outputs/model.yml", "outputs/graph_version.txt")


class BuildImageOperator(ModelwayOperator):
    """Put a registered version's model as one layer on a base image, without a daemon; the same model, the same digest.

    :param version: what RegisterModelOperator returned
    :param base: ``scratch``, or an image by digest
    :param repository: where to push, such as ``registry.example.com/models/digits``; None keeps it on this machine
    :param path: the model's folder in the image
    :param builder: how the image is built
    :param tag: the image's tag; ``{version}`` stands for the version's number

    Returns ``{model, version, digest, reference, tag, size}``.
    """

    template_fields: Sequence[str] = ("version", "base", "repository", "path", "builder", "tag")
    accepts: ClassVar[Checks] = {
        "version": checks.VERSION,
        "base": checks.BASE_IMAGE,
        "repository": checks.REPOSITORY,
        "path": checks.IMAGE_PATH,
        "builder": checks.BUILDER,
        "tag": checks.TAG,
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.base = base
        self.repository = repository
        self.path = path
        self.builder = builder
        self.tag = tag
        self.check_arguments()

    def run(self, context: Context) -> dict[str, Any]:
        """Build, push when asked to, and record the image."""
        from modelway.hooks.lineage import lineage_from_airflow

        settings = self.settings
        model, number = self.version["model"], int(self.version["version"])
        options = BuildOptions(
            name=model,
            layout=settings.image_layout,
            tag=self.tag.replace("{version}", str(number)),
            repository=self.repository,
            annotations={
                "org.opencontainers.image.title": model,
                "io.modelway.model.digest": self.version["model_digest"],
            },
            username=settings.registry_login,
            password=settings.registry_password,
        )
        with tempfile.TemporaryDirectory() as scratch:
            archive = self.artifacts.fetch(
                Artifact.from_dict(self.version["archive"]), to=Path(scratch) / "archive.zip"
            )
            manifest = unpack_archive(archive=archive, to=Path(scratch) / "model")
            layer = model_layer(manifest=manifest, folder=Path(scratch) / "model", path=self.path)
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
        return {
            "model": model,
            "version": number,
            "digest": image.digest,
            "reference": image.reference,
            "tag": image.tag,
            "size": image.size,
        }


def model_layer(*, manifest: Manifest, folder: Path, path: str) -> Layer:
    """Return the layer of what serving needs, from an unpacked archive."""
    return Layer(
        files=tuple(
            LayerFile(
                path_in_image=f"{path.rstrip('/')}/{member.path}",
                source=folder / member.path,
                size=member.size,
                digest=f"sha256:{member.sha256}",
            )
            for member in manifest.members
            if member.path.startswith(SERVED)
        )
    )
