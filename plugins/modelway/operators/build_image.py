"""Build the image of a model version."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import Job, JobStatus, Options, backend_member
from modelway.builders.base import BuildOptions, BuiltImage
from modelway.errors import JobFailed
from modelway.fields.refusal import Refusal
from modelway.hooks.secrets import with_values
from modelway.job.left_files import document_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import platform_refusals
from modelway.operators.context import actor, clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.ports import load
from modelway.runs.image_contents import build_version_image
from modelway.runs.image_job import IMAGE, PASSWORD, USERNAME, ImageOrder, left_image
from modelway.runs.messages import serving
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import RegisteredVersion


class BuildImageOperator(JobOperator):
    """Put a registered version's model on a base image, a layer for each file of weights; the same each time.

    The files go from the archive to the registry without a daemon and without a copy on the way: in a job of the
    backend, or in the task itself where that is ``local``, where nothing is pushed, and where the image is signed.

    :param version: what RegisterModelOperator returned
    :param base: ``scratch``, ``server`` for the deployment's image of the model server, or an image by digest
    :param repository: where to push, such as ``registry.example.com/models/digits``; None keeps it on this machine
    :param path: the model's folder in the image
    :param builder: how the image is built
    :param tag: the image's tag; ``{version}`` stands for the version's number
    :param platform: what only the builder knows, as the spec's section ``image.<builder>`` has it
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{model, version, digest, reference, tag, size}``.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        *("version", "base", "repository", "path", "builder", "tag", "platform"),
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
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

    def run(self, context: Context) -> Any:
        """Build the image, push it where there is a repository, and record it."""
        if self.repository and self.settings.registry_login and not self._login[0]:
            self.log.warning(
                "The connection modelway_registry is for %s: Docker's own login is used for %s.",
                self.settings.registry_host,
                self.repository,
            )
        if self._is_job():
            return super().run(context)
        version = RegisteredVersion.from_xcom(self.version)
        return self._record(context, self._build(version))

    def _is_job(self) -> bool:
        """Whether a job builds the image: elsewhere, and without anything that only this machine may have."""
        if self.backend == "local" or not self.repository:
            return False
        if reason := self._only_here():
            self.log.info("The image is built in this task: %s.", reason)
            return False
        return "job" in load("builders", self.builder).capabilities

    def _only_here(self) -> str | None:
        from modelway.oci.credentials import find_credentials

        if self.settings.signing_key:
            return "the key that signs it is on this machine"
        if not backend_member(self.backend).gives_secrets:
            return None
        if self._login[0]:
            return None if self.settings.registry_for_jobs else "the registry's login is not for jobs"
        docker = find_credentials((self.repository or "").partition("/")[0])
        return "the registry's login is one of Docker's own on this machine" if docker else None

    @property
    def _login(self) -> tuple[str | None, str | None]:
        return self.settings.login_for(self.repository or "")

    def job(self, context: Context) -> Job:
        """Return the job that builds the image."""
        version = RegisteredVersion.from_xcom(self.version)
        order = ImageOrder(
            version=version,
            base=self.settings.base_image(self.base),
            path=self.path,
            builder=self.builder,
            repository=self.repository or "",
            tag=self._tag(version),
            platform=self.platform or {},
        )
        return Job(
            model=version.model,
            run=run_key(context),
            key=job_key(context),
            stage="image",
            action="image",
            clear_number=clear_number(context),
            params=order.params(),
            inputs=order.inputs(),
        )

    def final_options(self, options: Options) -> Options:
        """Return the job's options with the registry's login, unless it is kept where the job runs."""
        final = super().final_options(options)
        username, password = self._login
        if not username or not backend_member(self.backend).gives_secrets:
            return final
        return with_values(final, {USERNAME: username, PASSWORD: password or ""}, secret=PASSWORD)

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Xcom:
        """Record the image that the job has pushed."""
        document = document_below(folder, IMAGE)
        if document is None:
            raise JobFailed("the image job left no image", where=str(folder / IMAGE))
        return self._record(context, left_image(document))

    def _tag(self, version: RegisteredVersion) -> str:
        return self.tag.replace("{version}", str(version.version))

    def _build(self, version: RegisteredVersion) -> BuiltImage:
        settings, (username, password) = self.settings, self._login
        options = BuildOptions(
            name=version.model,
            layout=None if self.repository else settings.image_layout,
            tag=self._tag(version),
            repository=self.repository,
            username=username,
            password=password,
            known_layers=settings.known_layers,
            signing_key=settings.signing_key,
            platform=self.platform or {},
        )
        return build_version_image(
            version,
            archive=self.artifacts.readable_file(version.archive),
            store=self.artifacts,
            base=settings.base_image(self.base),
            path=self.path,
            builder=self.builder,
            options=options,
        )

    def _record(self, context: Context, image: BuiltImage) -> Xcom:
        from modelway.hooks.lineage import lineage_from_airflow

        version = RegisteredVersion.from_xcom(self.version)
        self.log.info("image %s as %s", image.digest, image.reference)
        lineage_from_airflow(self.settings.lineage_url).record_image(
            model=version.model,
            version=version.version,
            builder=self.builder,
            digest=image.digest,
            reference=image.reference,
            actor=actor(context),
        )
        return serving.BuiltImage(
            model=version.model,
            version=version.version,
            digest=image.digest,
            reference=image.reference,
            tag=image.tag,
            size=image.size,
        ).to_xcom()
