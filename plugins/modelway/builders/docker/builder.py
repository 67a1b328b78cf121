"""Builds the base of an image from a Dockerfile of the model's code, and puts the model's layers on it.

The engine builds and pushes the base alone: a model would be copied into the engine, packed and hashed by it, and have
another digest each time, see docs/adr/0032. The builder ``oci`` adds the layers in the registry. A base that was made
of the same code, Dockerfile, arguments and base is reused, so that an image built again is the same.
"""

import hashlib
import io
import logging
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelway.artifacts.code_package import package_files
from modelway.builders.base import SCRATCH, BuildOptions, BuiltImage, Layer, load_builder
from modelway.builders.docker.section import DockerSection
from modelway.errors import ImageInvalid
from modelway.oci.manifest import canonical_json, parse_repository
from modelway.oci.registry import RegistryClient
from modelway.platforms.docker.dockerfile import build_dockerfile
from modelway.platforms.docker.engine import Engine

#: hex digits of the inputs' digest in the base's tag
_DIGITS = 32
_log = logging.getLogger(__name__)


def build(*, layers: Sequence[Layer], base: str, options: BuildOptions) -> BuiltImage:
    """Build the base, or find it in the repository, and push the image that stands on it; see ``Builder.build``.

    :param base: value of the Dockerfile's argument ``BASE``, unless it is ``scratch``
    :raises ImageInvalid: a step of the Dockerfile failed, or there is none, or no repository is named
    :raises SubmitFailed: the engine refuses or does not answer
    """
    section = DockerSection.model_validate(options.platform)
    if options.repository is None:
        do = "Set image.repository; without a registry use the builder 'oci'"
        raise ImageInvalid("the builder 'docker' pushes its images, and no repository is named", do=do)
    below = _find_or_build(section, base, options, repository=options.repository)
    return load_builder("oci").build(layers=layers, base=below, options=replace(options, platform={}))


def _find_or_build(section: DockerSection, base: str, options: BuildOptions, *, repository: str) -> str:
    """Return the reference of the base image, pinned by its digest."""
    context = _context(section, options)
    arguments = {**({"BASE": base} if base != SCRATCH else {}), **section.arguments}
    described = {
        "dockerfile": section.dockerfile,
        "arguments": arguments,
        "context": hashlib.sha256(context).hexdigest(),
    }
    tag = f"base-{hashlib.sha256(canonical_json(described)).hexdigest()[:_DIGITS]}"
    host, path = parse_repository(repository)
    login: dict[str, Any] = {"username": options.username, "password": options.password}
    with RegistryClient(host=host, **login, insecure=options.insecure) as registry:
        digest = registry.find_manifest(repository=path, name=tag)
        if digest is None:
            _build(section, context, arguments, name=f"{repository}:{tag}", options=options)
            digest = registry.find_manifest(repository=path, name=tag)
    if digest is None:
        raise ImageInvalid("the registry has no image by the tag that was just pushed", where=f"{repository}:{tag}")
    return f"{repository}@{digest}"


def _build(
    section: DockerSection, context: bytes, arguments: dict[str, str], *, name: str, options: BuildOptions
) -> None:
    engine = Engine()
    if "BASE" in arguments and arguments["BASE"] != SCRATCH:
        # Its registry may want the login that a build without a session does not have.
        engine.pull_missing(arguments["BASE"])
    build_dockerfile(
        engine,
        context=io.BytesIO(context),
        tag=name,
        dockerfile=section.dockerfile,
        arguments=arguments,
        labels={"org.opencontainers.image.title": options.name},
        report=lambda line: _log.info("%s", line),
    )
    engine.push(name, username=options.username, password=options.password)


def _context(section: DockerSection, options: BuildOptions) -> bytes:
    """Return the model's code as a tar archive, the same bytes for the same code."""
    folder = options.code
    if folder is None or not (folder / section.dockerfile).is_file():
        raise ImageInvalid(
            f"there is no '{section.dockerfile}' in the model's code",
            where="image.docker.dockerfile",
            do="Put it into the model's folder, or name it by its path there",
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in package_files(folder):
            _add(archive, folder / file, name=file.as_posix())
    return packed.getvalue()


def _add(archive: tarfile.TarFile, path: Path, *, name: str) -> None:
    entry = tarfile.TarInfo(name)
    data = path.read_bytes()
    entry.size, entry.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
    archive.addfile(entry, io.BytesIO(data))
