"""Files of any kind, which an image of the user's own serves: they are recorded, stored and never opened here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from modelway.job.freezing.exported import PATH, Exported
from modelway.job.freezing.given_program import conformed_answers
from modelway.job.freezing.rows import as_array, as_arrays
from modelway.job.freezing.served_form import FILES, FunctionAnswers, ServedForm, array_signature


def write_given_files(exported: Exported, *, folder: Path) -> ServedForm:
    """Copy the file, or everything below the folder, that ``export`` named by its path.

    :raises ValueError: export gave no path, nothing is there, a link leads out of it, or examples have no answers
    """
    if exported.kind != PATH:
        raise ValueError(f"freeze.format: files is for {PATH}, export gave {exported.kind}; write format: onnx")
    path = Path(os.fspath(exported.model))
    _copy(path, folder)
    examples = {} if exported.inputs is None else as_arrays(exported.inputs, what="export: the example inputs")
    own = exported.answers
    if examples and own is None:
        raise ValueError(
            "export: examples of files need answers, a function of inputs that gives the checkpoint's outputs by name"
        )
    answered = {name: as_array(each) for name, each in own(dict(examples)).items()} if examples and own else {}
    return ServedForm(
        platform=FILES,
        version=f"files of {path.name}",
        inputs=array_signature(examples, batched=True),
        outputs=array_signature(answered, batched=True),
        answers=FunctionAnswers(lambda inputs: conformed_answers(own(dict(inputs)), answered) if own else {}),
        examples=examples,
        batched=bool(examples),
        graph=(False, "the files are run by an image of your own, which joins requests or does not"),
    )


def _copy(path: Path, folder: Path) -> None:
    if path.is_file():
        shutil.copyfile(path, folder / path.name)
        return
    if not path.is_dir() or not any(each.is_file() for each in path.rglob("*")):
        raise ValueError(f"export: there is no file at {path}; give the path of a file or of a folder with files")
    for each in sorted(path.rglob("*")):
        if each.is_symlink() and not each.resolve().is_relative_to(path.resolve()):
            raise ValueError(
                f"export: the link {each.relative_to(path)} leads out of the folder; put the file itself there"
            )
        if each.is_file():
            target = folder / each.relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, target)
