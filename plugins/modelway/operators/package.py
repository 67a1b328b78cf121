"""Package a model's code."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.code_package import package_files, write_code_package
from modelway.artifacts.commits import git_commit
from modelway.errors import InvalidModelCode
from modelway.fields.refusal import Refusal, shown
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import is_known
from modelway.operators.base import ModelwayOperator
from modelway.runs.messages.code import CodePackage
from modelway.runs.messages.message import Xcom
from modelway.spec.load import FILE_NAME, models_beside, models_folder
from modelway.spec.problems import display


class PackageCodeOperator(ModelwayOperator):
    """Store a model's folder as a content-addressed archive; the same tree has the same digest everywhere.

    :param model: the model's name
    :param module: the Python file that defines ``train``, ``evaluate`` and ``export``
    :param folder: the folder with the model's code; default: the model's own folder, as it was when the run started

    Returns ``{model, module, uri, digest, size, commit: {commit, branch, dirty}}``.
    """

    template_fields: Sequence[str] = ("model", "folder", "module")
    accepts: ClassVar[Checks] = {
        "model": checks.MODEL,
        "folder": checks.FOLDER,
        "module": checks.MODULE,
    }

    def __init__(self, *, model: str, module: str, folder: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.folder = folder
        self.module = module
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return refusals of a missing model or file, where folder and name are known."""
        if not is_known(self.folder) or not is_known(self.model) or not is_known(self.module):
            return
        models = models_beside(Path(self.dag.fileloc)) if self.has_dag() else models_folder()  # type: ignore[no-untyped-call]
        known = [file.parent.name for file in sorted(models.glob(f"*/{FILE_NAME}"))]
        folder = Path(self.folder) if self.folder else models / self.model
        if folder.is_dir():
            if not (folder / self.module).is_file():
                names = [file.name for file in sorted(folder.glob("*.py"))]
                what = f"there is no file {shown(self.module)} in {display(folder)}"
                yield "module", Refusal(what, known=names, given=self.module)
        # A machine without any models does not package them.
        elif self.folder and (known or not folder.is_relative_to(models)):
            yield "folder", Refusal(f"there is no folder {shown(str(folder))}", do="Leave it out for the model's own")
        elif known:
            yield "model", Refusal(f"there is no model {shown(self.model)}", known=known, given=self.model)

    def run(self, context: Context) -> Xcom:
        """Package and store the code."""
        # The DAG file of a run may be in a snapshot, which contains the models' folders too.
        folder = Path(self.folder) if self.folder else models_beside(Path(self.dag.fileloc)) / self.model
        names = [file.as_posix() for file in package_files(folder)]
        if self.module not in names:
            raise InvalidModelCode(
                f"there is no file '{self.module}'", where=str(folder), known=names, given=self.module
            )
        with tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "code.zip"
            write_code_package(folder=folder, to=package)
            artifact = self.artifacts.put(package, model=self.model)
        self.log.info("packaged %d files of %s as %s", len(names), folder, artifact.digest)
        return CodePackage(
            model=self.model,
            module=self.module,
            uri=artifact.uri,
            digest=artifact.digest,
            size=artifact.size,
            commit=git_commit(folder),
        ).to_xcom()
